//! The words of every refusal: what is wrong and what to write instead. The CRDs' CEL rules and [`super::check`] share them.
//! Whoever shows them, the API server or we, writes the whole name of the field before them.

pub(super) const DURATION: &str = "is not a duration: write a number with its unit, such as 100ms, 10s or 1m";

// MediaStream
pub(super) const PATH: &str = "path must be app/key: two or more parts with / between, of letters, digits and . _ ~ @ -, such as live/cam-1";
pub(super) const PATH_DOTS: &str = "path must not have . or .. as a part: write the path out";
pub(super) const PATH_ENDING: &str =
    "path must not end in .flv, .m3u8, /whip or /whep, which URLs append to it: choose another key";
pub(super) const PATH_FIXED: &str = "path can't be changed while viewers may be on it: delete this MediaStream and create it again, or create a second one with the new path";
pub(super) const SOURCE_ONE: &str = "source must have exactly one of push and rtp: write push: {} for an encoder that comes to us, or rtp: for GB28181 media";
pub(super) const SOURCE_PULL: &str = "pull does not work yet: use spec.source.push and let an encoder push here, for example ffmpeg -i URL -c copy -f flv rtmp://HOST/PATH";
pub(super) const SOURCE_FIXED: &str =
    "source can't change its kind: delete this MediaStream and create it again with the other source";
pub(super) const PUSH_PROTOCOLS: &str = "protocols: only RTMP works yet; remove RTMPS, RTSP, WHIP and SRT, or leave protocols out for all that work";
pub(super) const PLAY_PROTOCOLS: &str = "protocols: only RTMP and HTTPFLV work yet; remove RTMPS, RTSP, HLS, WHEP and SRT, or leave protocols out for all that work";
pub(super) const PROTOCOLS_EMPTY: &str =
    "protocols must not be empty: leave it out for all that work, or name at least one";
pub(super) const PROTOCOLS_TWICE: &str = "protocols names one twice: name each protocol once";
pub(super) const RTP_ACTIVE: &str = "remote is needed with transport TCPActive: write whom to connect to, such as {host: 192.0.2.7, port: 15060}";
pub(super) const RTP_REMOTE: &str = "remote belongs to transport TCPActive, where we connect to the device: remove it, or write transport: TCPActive";
pub(super) const HOST: &str = "host must be a host name or an address alone, without brackets, port or zone: write nvr.example, 192.0.2.7 or 2001:db8::7";
pub(super) const REMOTE_PORT: &str = "port must be from 1 to 65535: write the one that the device listens on";
pub(super) const RTP_PAYLOAD: &str = "payload: only PS works yet; remove TS, ES or Auto and have the device send PS, as GB28181 does by default";
pub(super) const RTP_PORT: &str = "port must be from 1 to 65535 and one of the pool's: write one of its spec.ranges, or remove it and read status.ports";
pub(super) const RTP_PORT_ODD: &str = "port must be even where RTCP has the odd port above it: write the even one, or rtcp: false for a single port";
pub(super) const SHARED_SSRC: &str = "ssrcPolicy must be Enforce with shared, where streams are told apart by their SSRC: remove Learn, and write the ssrc that the device is invited with";
pub(super) const SHARED_PORT: &str = "port can't be chosen with shared, which leases none: remove one of the two; the worker's --rtp-shared says which port all share";
pub(super) const SHARED_ACTIVE: &str = "transport TCPActive can't be shared, since we connect to the device and nobody has to be told apart: remove shared, or use TCPPassive or UDP";
pub(super) const SHARED_RTCP: &str = "rtcp: true has no meaning with shared, where there is one port and no pair: remove it; RTCP that comes to that port is understood";
pub(super) const SHARED_POOL: &str =
    "portPoolRef has no use with source.rtp.shared, which leases no port: remove one of the two";
pub(super) const SHARED_RELEASE: &str =
    "releaseAfterIdle has no use with source.rtp.shared, which holds no port: remove it";
pub(super) const RTP_RTCP: &str = "rtcp: true has no meaning over TCP, where RTCP comes in-band on the one port: remove it, or use transport UDP";
pub(super) const SSRC: &str =
    "ssrc must be a string of 10 digits up to \"4294967295\", in quotes, such as \"0200000001\"";
pub(super) const SSRC_MISSING: &str = "ssrc is needed with ssrcPolicy Enforce: write the SSRC that the device was invited with, or set ssrcPolicy: Learn to take the first that comes";
pub(super) const RTP_TOKEN: &str = "tokenSecretRef can't be asked of an rtp source, which carries no token: remove it and use publish.allowedCIDRs";
pub(super) const RTP_TAKEOVER: &str = "onDuplicate Takeover does not fit an rtp source: remove it; a second sender with the right SSRC takes over once the first was silent for 1s";
pub(super) const POOL_REF: &str =
    "portPoolRef is for source.rtp only, since a pushed stream leases no port: remove it";
pub(super) const RELEASE: &str =
    "releaseAfterIdle is for source.rtp only, since a pushed stream holds no port: remove it";
pub(super) const CIDR: &str = "allowedCIDRs must be in CIDR notation: write 192.0.2.0/24, 2001:db8::/32, or 192.0.2.7/32 for one address";
pub(super) const CIDRS_EMPTY: &str = "allowedCIDRs must not be empty, which would let nobody in: leave it out for everybody, or set paused: true";
pub(super) const CIDRS_MAX: &str = "allowedCIDRs has more than 64 networks: join neighbours into larger ones";
pub(super) const NAME: &str = "name must not be empty: write the name of the object that is referred to";
pub(super) const START_TIMEOUT: &str = "startTimeout must be from 100ms to 10m";
pub(super) const STALL_TIMEOUT: &str = "stallTimeout must be from 100ms to 1h";
pub(super) const RESUME_WINDOW: &str = "resumeWindow must be from 0s, to end viewers at once, to 1h";
pub(super) const PLAY_START_TIMEOUT: &str = "startTimeout must be from 0s, to refuse at once, to 10m";
pub(super) const RELEASE_RANGE: &str = "releaseAfterIdle must be 0s, for never, or up to 720h";
pub(super) const TTL_RANGE: &str = "ttlAfterIdle must be from 1s to 8760h; leave it out for never";

// PortPool
pub(super) const RANGES_EMPTY: &str =
    "ranges must have at least one range: write - {start: 20000, end: 29999}";
pub(super) const RANGES_MAX: &str =
    "ranges has more than 64 ranges: join neighbours, and use spec.reserved for holes";
pub(super) const RANGE_PORT: &str = "a port of a range must be from 1024 to 65535, since workers run without privileges: write - {start: 20000, end: 29999}";
pub(super) const RANGE_ORDER: &str = "a range's start must not be above its end: swap them";
pub(super) const RANGES_OVERLAP: &str = "ranges overlap each other: join those that share a port into one";
pub(super) const RESERVED: &str = "an entry of spec.reserved must be a port or a range, start not above end: write 20666 or \"20666-20670\"";
pub(super) const RESERVED_MAX: &str =
    "reserved has more than 256 entries: join neighbours into ranges such as \"20666-20670\"";
pub(super) const COOLDOWN: &str = "cooldown must be from 100ms to 1h";
pub(super) const SHRINK_DEADLINE: &str = "deadline belongs to policy Move, since Wait lets leases outside the ranges end by themselves: remove it, or write policy: Move";
pub(super) const SHRINK_DEADLINE_RANGE: &str = "deadline must be from 1s to 720h; leave it out for 1h";
pub(super) const PERCENT: &str = "nearlyExhaustedPercent must be from 1 to 100";

// Status
pub(super) const EPOCH_FALLS: &str = "epoch must never fall: an epoch is never used twice";
pub(super) const TERM_FALLS: &str =
    "term must never fall: a replica that lost its leadership writes no status";
