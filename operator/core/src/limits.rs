//! Every bound of the core, with the sum that gave it.

use std::time::Duration;

/// Of a pool that is gone while its numbers are still leased: the default of `spec.cooldown`.
pub const COOLDOWN_DEFAULT: Duration = Duration::from_secs(10);

/// A host with quarantined numbers is scanned again after the pool's cooldown, but not sooner: an inventory costs its
/// worker one read of /proc/net, about 1 ms for each 1000 sockets.
pub const SCAN_AGAIN_MIN: Duration = Duration::from_secs(1);

/// A write that was refused is tried again after this, or when its object changes.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Writes in flight at once with an API that answers none in time: so few that even 4 a second get through one after the other,
/// so many that one that is lost holds up no other.
pub const WRITES_IN_FLIGHT_MIN: usize = 4;

/// Writes of a pool's status in a row, one in `pool_status_every`, that met another version than is known. A watch that
/// lives brings that version sooner.
pub const POOL_CONFLICTS_MAX: u32 = 4;

/// A silent worker's streams say so after this: three beats late, and a restart by its supervisor goes unseen.
pub const UNHEARD_AFTER: Duration = Duration::from_millis(1500);

/// What witnesses say of a worker that is not heard holds this long: they are asked each second and answer in half of one.
pub const VOUCHED_FOR: Duration = Duration::from_millis(2500);

/// A directory message, but for one entry that weighs more alone. Of 250 bytes each, 260 entries: all of 10 000 streams is 40
/// messages, and a worker keeps a buffer as large as the largest.
pub const DIRECTORY_BYTES: usize = 64 << 10;

/// Between two messages of the cluster's own networks to all workers, however many nodes come and go: 200 nodes are 10 KB at most, to 200
/// workers 2 MB. A worker takes 5000 nodes in one message, which are 250 KB.
pub const NETWORKS_PAUSE: Duration = Duration::from_secs(1);

/// Tokens of one Secret: one for each who publishes or plays, and the next of each while they change. Every entry of the directory
/// that names the Secret has 32 bytes for each, twice when it is for publishers and players: 10 000 of them are 82 MB in a worker.
pub const TOKENS_MAX: usize = 128;

/// Names and problems in a pool's status.
pub const STATUS_LIST_MAX: usize = 50;

/// Streams that leave draining workers, and those of nodes that are down at the end of a hold, at once. A failover waits for the
/// writes of these at most, 25 ms at 1 ms each.
pub const MOVES_MAX: usize = 25;

/// A sender to leased ports has this long to be invited to the new ones; the old ones take it until then.
pub const HANDOVER: Duration = Duration::from_secs(30);

/// Once media has come on the new ports for this long, the old ones are closed.
pub const HANDOVER_OVERLAP: Duration = Duration::from_secs(2);

/// Two aborts within this make a stream Suspect.
pub const SUSPECT_WINDOW: Duration = Duration::from_secs(600);

/// A list that lacks more than this part of a worker's streams is not believed, in percent.
pub const ABSENT_PERCENT_MAX: usize = 30;

/// Streams that only workers have told of. At about 100 bytes each, 10 MB; 60 s of closed ones are told of at once.
pub const EPOCHS_TOLD_MAX: usize = 100_000;

/// Closed ports that an inventory tells of are at most this old.
pub const CLOSED_KEPT: Duration = Duration::from_secs(60);

/// Of so many streams, three quarters have to go before memory is laid out anew: fewer leave no megabyte behind.
pub(crate) const COMPACTED_FROM: usize = 64;
