//! Properties: what later versions of OpenFlow hang on to their structures.
//!
//! ```text
//! +------+--------+--------------+---------------------+
//! | type | length | contents ... | pad to 8, uncounted |
//! +------+--------+--------------+---------------------+
//! ```

use bytes::Bytes;

use crate::wire::{Reader, Result, Sink, Writer};

/// A property that is not known here, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Property {
    /// Its type; 0xffff is an experimenter's, whose contents begin with the experimenter's number.
    pub kind: u16,
    /// What follows the four bytes of type and length, without the padding.
    pub body: Bytes,
}

/// The type of a property that somebody defined for himself.
pub(super) const EXPERIMENTER: u16 = 0xffff;

impl Property {
    pub(super) fn encode(&self, w: &mut Writer<impl Sink>, what: &'static str) {
        w.property(self.kind, what, |w| w.slice(&self.body));
    }
}

/// Properties up to the end; `one` makes each of its type and contents.
pub(super) fn decode_properties<'a, T>(
    r: &mut Reader<'a>,
    what: &'static str,
    one: impl Fn(u16, &mut Reader<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let (kind, mut body) = r.property(what)?;
        out.push(one(kind, &mut body)?);
        body.finish_property()?;
    }
    Ok(out)
}

/// Properties up to the end, none of which are known.
pub(super) fn decode_unknown(r: &mut Reader<'_>, what: &'static str) -> Result<Vec<Property>> {
    decode_properties(r, what, |kind, body| Ok(Property { kind, body: body.rest() }))
}

pub(super) fn encode_unknown(properties: &[Property], w: &mut Writer<impl Sink>, what: &'static str) {
    properties.iter().for_each(|property| property.encode(w, what));
}

/// Who defined a property, and the number there; `None` if it is not an experimenter's.
pub(super) fn experimenter(kind: u16, body: &Reader<'_>) -> Option<(u32, u32)> {
    let mut body = body.clone();
    (kind == EXPERIMENTER).then(|| Some((body.u32().ok()?, body.u32().ok()?))).flatten()
}
