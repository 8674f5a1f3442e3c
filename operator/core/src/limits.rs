//! Every bound of the core, with the sum that gave it.

use std::time::Duration;

/// Of a pool that is gone while its numbers are still leased: the default of `spec.cooldown`.
pub const COOLDOWN_DEFAULT: Duration = Duration::from_secs(10);

/// A host with quarantined numbers is scanned again after the pool's cooldown, but not sooner: an inventory costs its
/// worker one read of /proc/net, about 1 ms for each 1000 sockets.
pub const SCAN_AGAIN_MIN: Duration = Duration::from_secs(1);

/// A write that was refused is tried again after this, or when its object changes.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Writes of a pool's status in a row, one in `pool_status_every`, that met another version than is known. A watch that
/// lives brings that version sooner.
pub const POOL_CONFLICTS_MAX: u32 = 4;

/// A silent worker's streams say so after this: three beats late, and a restart by its supervisor goes unseen.
pub const UNHEARD_AFTER: Duration = Duration::from_millis(1500);

/// Entries of one directory message. At about 300 bytes each, 300 KB: under gRPC's 4 MB.
pub const DIRECTORY_ENTRIES_MAX: usize = 1000;

/// Names and problems in a pool's status.
pub const STATUS_LIST_MAX: usize = 50;

/// Two aborts within this make a stream Suspect.
pub const SUSPECT_WINDOW: Duration = Duration::from_secs(600);

/// A list that lacks more than this part of a worker's streams is not believed, in percent.
pub const ABSENT_PERCENT_MAX: usize = 30;

/// Streams that only workers have told of. At about 100 bytes each, 10 MB; 60 s of closed ones are told of at once.
pub const EPOCHS_TOLD_MAX: usize = 100_000;

/// Closed ports that an inventory tells of are at most this old.
pub const CLOSED_KEPT: Duration = Duration::from_secs(60);
