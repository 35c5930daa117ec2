//! OpenFlow 1.5 as Open vSwitch speaks it: a codec, without I/O.
//!
//! [`Message::decode`] and [`Message::encode`] translate whole messages, [`frame_len`] cuts a stream into
//! them, [`Reassembly`] puts the parts of long answers together, and `Display` prints messages as `ovs-ofctl`
//! does. What is not known here is kept as opaque bytes, in variants called `Other` or `Unknown`, and encodes
//! to the same bytes again. Nothing that comes from outside makes it panic.
//!
//! ```
//! use ofpacket::{Action, Body, Flow, FlowMod, Match, Message, OxmField};
//!
//! let flow = Flow::new(
//!     65,
//!     100,
//!     Match::new().with(OxmField::reg(15), 2u32).with(OxmField::METADATA, 1u64),
//!     vec![Action::output(5u32)],
//! );
//! assert_eq!(flow.to_string(), " table=65, priority=100,reg15=0x2,metadata=0x1 actions=output:5");
//!
//! // Text is read as well, in all of `ovs-ofctl`'s syntax.
//! assert_eq!(flow.to_string().parse::<Flow>()?.key(), flow.key());
//!
//! let message = Message { xid: 1, body: Body::FlowMod(FlowMod::add(flow)) };
//! let bytes = message.encode()?;
//! assert_eq!(Message::decode(&bytes)?, message);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A stream is cut into messages by their lengths:
//!
//! ```
//! use ofpacket::{DecodeError, Message, frame_len};
//!
//! /// The whole messages that the buffer begins with, which are taken out of it.
//! fn messages(buffer: &mut Vec<u8>) -> Result<Vec<Message>, DecodeError> {
//!     let mut messages = Vec::new();
//!     while let Some(len) = frame_len(buffer).transpose()? {
//!         if buffer.len() < len {
//!             break;
//!         }
//!         messages.push(Message::decode(&buffer[..len])?);
//!         buffer.drain(..len);
//!     }
//!     Ok(messages)
//! }
//!
//! // A BARRIER_REPLY, and the begin of what follows.
//! let mut buffer = vec![6, 21, 0, 8, 0, 0, 0, 7, 6, 2];
//! let messages = messages(&mut buffer)?;
//! assert_eq!(messages[0].to_string(), "OFPT_BARRIER_REPLY (OF1.5) (xid=0x7):");
//! assert_eq!((messages.len(), &buffer[..]), (1, &[6, 2][..]));
//! # Ok::<(), DecodeError>(())
//! ```
//!
//! # Inside
//!
//! `wire` (reading within bounds; writing, or comparing with what was read), `oxm` (match fields; one table knows
//! them all), [`Match`], [`Action`], [`Instruction`], [`Flow`], [`text`] (reading all of these from text), and one
//! file per family of messages under `message`. Decoding ends with a comparison: the message is gone through as if
//! it were encoded, and each byte must be that which came. If one is not, it is decoded once more with every action
//! compared on its own, and what differs stays as it came.

#![warn(missing_docs)]

mod action;
mod error;
mod flow;
mod instruction;
mod match_;
mod match_text;
mod message;
mod oxm;
mod port;
pub mod text;
mod wire;

pub use action::{
    Action, Bundle, Controller2, Ct, CtZone, Encap, EncapProperty, Learn, LearnDst, LearnSpec, LearnSrc,
    Multipath, Nat, Sample, SampleId,
};
pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use flow::{Flow, FlowKey, FlowStats};
pub use instruction::Instruction;
pub use match_::Match;
pub use message::*;
pub use oxm::{Access, FieldInfo, IntoValue, Kind, Maskable, Oxm, OxmBytes, OxmField, Prerequisite, Value};
pub use port::PortNo;
pub use text::ParseError;
