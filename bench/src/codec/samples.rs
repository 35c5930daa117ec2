//! What is decoded and encoded: one message of each type, as a switch and `ovs-ofctl` send them.

use anyhow::{Context, bail};
use ofpacket::Message;

/// A message and its bytes.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) message: Message,
}

/// One message of each type.
pub(crate) fn samples() -> anyhow::Result<Vec<Sample>> {
    let sample = |(name, bytes): (&'static str, Vec<u8>)| {
        let message = Message::decode(&bytes).with_context(|| format!("cannot read {name}"))?;
        if message.encode()? != bytes {
            bail!("{name} is not written as it was read");
        }
        Ok(Sample { name, bytes, message })
    };
    parse(include_str!("openflow15.txt"))?.into_iter().map(sample).collect()
}

/// Lines of a name and hexadecimal digits.
pub(crate) fn parse(text: &'static str) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &'static str| {
        let (name, hex) = line.split_once(' ').context("a line without a blank")?;
        let byte = |i| u8::from_str_radix(hex.get(i..i + 2).unwrap_or_default(), 16);
        let bytes: Result<_, _> = (0..hex.len()).step_by(2).map(byte).collect();
        Ok((name, bytes.with_context(|| format!("{name} is not hexadecimal"))?))
    };
    lines.map(parse).collect()
}
