//! Prints OpenFlow 1.5 messages as `ovs-ofctl ofp-parse` does.
//!
//! ```text
//! echo '06 05 00 08 00000001' | cargo run -p ofpacket --example ofp-print [-- --reencode]
//! ```
//!
//! Standard input holds one message a line, in hexadecimal; spaces are allowed, empty lines and lines that
//! begin with `#` are skipped. With `--reencode` the messages are not printed as text: they are decoded and
//! encoded again, and printed in hexadecimal. A line that is not a message is reported on standard error with its
//! number and does not stop the rest; the exit status is then 1.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use ofpacket::Message;

fn main() -> io::Result<ExitCode> {
    let reencode = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--reencode" => true,
        _ => {
            eprintln!("usage: ofp-print [--reencode] < FILE");
            return Ok(ExitCode::from(2));
        }
    };
    let good = run(io::stdin().lock(), io::stdout().lock(), io::stderr(), reencode)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints all lines; whether all of them were good.
pub(crate) fn run(
    input: impl BufRead,
    out: impl Write,
    mut errors: impl Write,
    reencode: bool,
) -> io::Result<bool> {
    let mut out = io::BufWriter::new(out);
    let mut good = true;
    for (i, line) in input.split(b'\n').enumerate() {
        match print(&line?, reencode) {
            Ok(None) => {}
            Ok(Some(text)) => writeln!(out, "{text}")?,
            Err(error) => {
                // What was good before comes before.
                out.flush()?;
                writeln!(errors, "line {}: {error}", i + 1)?;
                good = false;
            }
        }
    }
    out.flush()?;
    Ok(good)
}

/// What is to be printed for a line, if anything.
fn print(line: &[u8], reencode: bool) -> Result<Option<String>, Box<dyn std::error::Error>> {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let message = Message::decode(&parse_hex(line)?)?;
    Ok(Some(if reencode {
        message.encode()?.iter().map(|byte| format!("{byte:02x}")).collect()
    } else {
        message.to_string()
    }))
}

fn parse_hex(line: &[u8]) -> Result<Vec<u8>, String> {
    let mut digits = Vec::new();
    for (at, &byte) in line.iter().enumerate().filter(|(_, byte)| !byte.is_ascii_whitespace()) {
        let digit = char::from(byte).to_digit(16);
        digits.push(digit.ok_or_else(|| format!("column {}: not a hexadecimal digit", at + 1))? as u8);
    }
    match digits.len() % 2 {
        0 => Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()),
        _ => Err("an odd number of hexadecimal digits: each byte needs two".to_owned()),
    }
}
