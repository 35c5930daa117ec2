//! JSON-RPC messages (RFC 7047 section 4), read without a tree of what may be large in them.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::ConnectionError;
use crate::framer::FrameError;

/// A request, a notification (a request whose `id` is null) or a reply.
#[derive(Debug, Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(default)]
    pub(crate) id: Value,
    pub(crate) method: Option<String>,
    #[serde(borrow)]
    pub(crate) params: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    pub(crate) fn read(frame: &'a [u8]) -> Result<Self, ConnectionError> {
        serde_json::from_slice(frame).map_err(|error| {
            if error.is_data() {
                ConnectionError::Protocol(error.to_string())
            } else {
                FrameError::Malformed(error.to_string()).into()
            }
        })
    }
}

/// A part of a message as the type that is wanted; what is left out is `null`.
pub(crate) fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Result<T, ConnectionError> {
    let text = raw.map_or("null", RawValue::get);
    serde_json::from_str(text).map_err(|error| ConnectionError::Protocol(error.to_string()))
}
