//! The floor: bytes that were made before, written to a blocking socket, and the answers read.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use ofpacket::{Body, BundleAdd, BundleControl, BundleControlType, FlowMod, Hello, Message, frame_len};

/// A connection to the switch after the exchange of HELLO.
pub(super) struct Raw {
    stream: UnixStream,
    input: Vec<u8>,
    from: usize,
    to: usize,
}

/// The messages of a bundle, encoded.
pub(super) struct Encoded {
    /// OPEN and the ADDs.
    pub(super) adds: Bytes,
    pub(super) close: Bytes,
    pub(super) commit: Bytes,
}

const ID: u32 = 1;
const FLAGS: u16 = BundleControl::ATOMIC | BundleControl::ORDERED;

fn control(kind: BundleControlType) -> Body {
    Body::BundleControl(BundleControl { bundle_id: ID, kind, flags: FLAGS, properties: Bytes::new() })
}

pub(super) fn encode(mods: Vec<FlowMod>) -> anyhow::Result<Encoded> {
    let mut adds = BytesMut::new();
    let mut xid = 1;
    Message { xid, body: control(BundleControlType::OpenRequest) }.encode_into(&mut adds)?;
    for flow_mod in mods {
        xid += 1;
        let body = Box::new(Body::FlowMod(flow_mod));
        let add = BundleAdd { bundle_id: ID, flags: FLAGS, body, properties: Bytes::new() };
        Message { xid, body: Body::BundleAdd(add) }.encode_into(&mut adds)?;
    }
    let close = Message { xid: xid + 1, body: control(BundleControlType::CloseRequest) }.encode()?;
    let commit = Message { xid: xid + 2, body: control(BundleControlType::CommitRequest) }.encode()?;
    Ok(Encoded { adds: adds.freeze(), close, commit })
}

impl Raw {
    pub(super) fn connect(path: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(path).context("cannot connect")?;
        let mut raw = Self { stream, input: vec![0; 128 << 10], from: 0, to: 0 };
        raw.write(&Message { xid: 1, body: Body::Hello(Hello::only_1_5()) }.encode()?)?;
        raw.frame(|frame| Ok(frame[1] == 0))?;
        Ok(raw)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).context("cannot write")
    }

    /// Reads messages up to the first one for which `last` holds.
    pub(super) fn frame(&mut self, last: impl Fn(&[u8]) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        loop {
            let bytes = &self.input[self.from..self.to];
            if let Some(len) = frame_len(bytes).transpose()?
                && let Some(frame) = bytes.get(..len)
            {
                self.from += len;
                if last(frame)? {
                    return Ok(());
                }
                continue;
            }
            self.input.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            match self.stream.read(&mut self.input[self.to..]).context("cannot read")? {
                0 => bail!("the switch closed the connection"),
                n => self.to += n,
            }
        }
    }

    /// Reads up to the reply of this kind; an error is one.
    pub(super) fn until(&mut self, kind: BundleControlType) -> anyhow::Result<()> {
        self.frame(|frame| match Message::decode(frame)?.body {
            Body::BundleControl(control) => Ok(control.kind == kind),
            Body::Error(error) => bail!("the switch refused: {error}"),
            _ => Ok(false),
        })
    }
}
