//! Putting the parts of an answer together.

use bytes::BytesMut;

use super::{MultipartReply, ReplyBody};

/// Puts the parts of one answer together, the messages of one xid.
///
/// ```
/// use ofpacket::{MultipartReply, Reassembly, ReassemblyError, ReplyBody};
///
/// let part = |more| MultipartReply { more, body: ReplyBody::TableStats(Vec::new()) };
/// let mut answer = Reassembly::new(1 << 20);
/// assert_eq!(answer.add(part(true), 16), Ok(None));
/// assert_eq!(answer.add(part(false), 16), Ok(Some(ReplyBody::TableStats(Vec::new()))));
///
/// let mut answer = Reassembly::new(20);
/// assert_eq!(answer.add(part(true), 16), Ok(None));
/// assert_eq!(answer.add(part(false), 16), Err(ReassemblyError::TooLarge { limit: 20 }));
/// ```
#[derive(Debug, Clone)]
pub struct Reassembly {
    limit: usize,
    /// Bytes of the parts so far.
    used: usize,
    body: Option<ReplyBody>,
}

/// Parts that cannot be put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReassemblyError {
    /// All parts together exceed the limit.
    #[error("the answer is larger than {limit} bytes: ask for less, or raise the limit")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A part is of another type than those before it.
    #[error("the parts of the answer are of different types: the connection cannot be trusted any more")]
    Mixed,
    /// A second part of what fits into one.
    #[error("the answer has two parts where there is only one: the connection cannot be trusted any more")]
    NotAList,
}

impl ReassemblyError {
    /// A stable name for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Mixed => "mixed",
            Self::NotAList => "not_a_list",
        }
    }
}

impl Reassembly {
    /// For an answer whose messages have no more than `limit` bytes together.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: 0, body: None }
    }

    /// Adds the next part, which came in a message of `bytes` bytes; the whole, if this was the last one.
    ///
    /// Afterwards, and after an error, it is as new.
    ///
    /// # Errors
    /// The part does not belong to those before it, or all of them are too large.
    pub fn add(&mut self, part: MultipartReply, bytes: usize) -> Result<Option<ReplyBody>, ReassemblyError> {
        let before = self.body.take();
        let used = std::mem::take(&mut self.used).saturating_add(bytes);
        if used > self.limit {
            return Err(ReassemblyError::TooLarge { limit: self.limit });
        }
        let body = match before {
            None => part.body,
            Some(body) => join(body, part.body)?,
        };
        if !part.more {
            return Ok(Some(body));
        }
        (self.used, self.body) = (used, Some(body));
        Ok(None)
    }
}

/// Both parts as one.
fn join(first: ReplyBody, second: ReplyBody) -> Result<ReplyBody, ReassemblyError> {
    use ReplyBody as Body;

    macro_rules! join {
        ($($list:ident)*) => {
            match (first, second) {
                $((Body::$list(mut all), Body::$list(more)) => {
                    all.extend(more);
                    Ok(Body::$list(all))
                })*
                (Body::Other { kind, body }, Body::Other { kind: same, body: more }) if kind == same => {
                    let mut all = body.try_into_mut().unwrap_or_else(|body| BytesMut::from(&body[..]));
                    all.extend_from_slice(&more);
                    Ok(Body::Other { kind, body: all.freeze() })
                }
                (first, second) if std::mem::discriminant(&first) == std::mem::discriminant(&second) => {
                    let other = matches!(first, Body::Other { .. });
                    Err(if other { ReassemblyError::Mixed } else { ReassemblyError::NotAList })
                }
                _ => Err(ReassemblyError::Mixed),
            }
        };
    }
    join!(FlowDesc TableStats PortStats QueueStats GroupStats GroupDesc MeterStats MeterConfig
          TableFeatures PortDesc TableDesc QueueDesc FlowMonitor IpfixFlow)
}
