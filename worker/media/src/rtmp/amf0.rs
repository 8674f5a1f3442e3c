//! AMF0, the notation of RTMP's commands and metadata.

/// Why bytes are not AMF0 that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end inside a value.
    #[error("the value ends early")]
    Truncated,
    /// A type marker that AMF0 has not, or that nobody sends.
    #[error("type marker {0:#04x} is not supported")]
    Marker(u8),
    /// Objects in objects.
    #[error("nested deeper than {max}", max = super::limits::AMF_DEPTH_MAX)]
    TooDeep,
    /// Too many values in one message.
    #[error("more than {max} values", max = super::limits::AMF_VALUES_MAX)]
    TooMany,
}
