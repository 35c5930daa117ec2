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
//! The parts: `wire` (reading within bounds), `oxm` (match fields; one table knows them all), [`Match`],
//! [`Action`], [`Instruction`], [`Flow`], [`text`] (reading all of these from text), and one file per family
//! of messages under `message`.

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
