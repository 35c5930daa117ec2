//! Cuts a stream of bytes into JSON values.
//!
//! JSON-RPC over a stream puts nothing between its messages (RFC 7047 section 4): one ends where its outermost
//! brace closes. So the framer counts braces and brackets outside strings, and parses a value once it is whole.

use serde_json::Value;

/// Largest message unless another limit is given, in bytes: the first contents of a very large southbound
/// database arrive as one message of some hundred megabytes.
pub const DEFAULT_MAX_MESSAGE: usize = 512 << 20;

/// Nesting that serde_json still parses; OVSDB needs less than ten.
const MAX_DEPTH: usize = 127;

/// An idle buffer larger than this is given back, so that the first contents do not stay allocated.
const KEEP_CAPACITY: usize = 1 << 20;

/// The stream cannot be understood from here on; the connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// What is received does not begin like JSON.
    #[error("byte {0:#04x} where a JSON object or array must begin")]
    Garbage(u8),
    /// A message is larger than is accepted.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
    /// More brackets in each other than any message has.
    #[error("JSON nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Not JSON, as the parser says.
    #[error("malformed JSON: {0}")]
    Malformed(String),
}

impl FrameError {
    /// A stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Garbage(_) => "garbage",
            Self::TooLarge(_) => "too_large",
            Self::TooDeep => "too_deep",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// Bytes in, JSON values out. Each byte is looked at once, however the stream is split.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Where the value being read begins, and how far it has been scanned.
    start: usize,
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    max_message: usize,
    failed: Option<FrameError>,
}

impl Default for Framer {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_MESSAGE)
    }
}

impl Framer {
    /// `max_message` is in bytes.
    pub fn new(max_message: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            max_message,
            failed: None,
        }
    }

    /// Adds what was read. Call [`Self::next_value`] until it has no more before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next complete value, `None` when more bytes are needed. After an error always the same error.
    pub fn next_value(&mut self) -> Result<Option<Value>, FrameError> {
        let Some(frame) = self.next_frame()? else { return Ok(None) };
        let value = serde_json::from_slice(&frame);
        value.map(Some).map_err(|error| self.fail(FrameError::Malformed(error.to_string())))
    }

    /// The text of the next complete value, which may still turn out to be malformed.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance().map_err(|error| self.fail(error))
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.failed = Some(error.clone());
        self.buffer = Vec::new();
        error
    }

    fn advance(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.scanned - self.start > self.max_message {
                return Err(FrameError::TooLarge(self.max_message));
            }
            if self.scan(byte)? {
                return Ok(Some(self.take_frame()));
            }
        }
        self.drop_consumed();
        Ok(None)
    }

    /// Looks at one byte; true when it closes the value.
    fn scan(&mut self, byte: u8) -> Result<bool, FrameError> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(false);
        }
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(FrameError::TooDeep);
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => self.start = self.scanned,
            _ if self.depth == 0 => return Err(FrameError::Garbage(byte)),
            b'}' | b']' => {
                self.depth -= 1;
                return Ok(self.depth == 0);
            }
            b'"' => self.in_string = true,
            _ => {}
        }
        Ok(false)
    }

    /// A small frame is copied; a large one takes the buffer along, so that it is in memory once.
    fn take_frame(&mut self) -> Vec<u8> {
        if self.scanned - self.start < KEEP_CAPACITY {
            let frame = self.buffer[self.start..self.scanned].to_vec();
            self.start = self.scanned;
            return frame;
        }
        let rest = self.buffer.split_off(self.scanned);
        let mut frame = std::mem::replace(&mut self.buffer, rest);
        frame.drain(..self.start);
        (self.start, self.scanned) = (0, 0);
        frame
    }

    fn drop_consumed(&mut self) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        if self.buffer.capacity() > KEEP_CAPACITY && self.buffer.len() < KEEP_CAPACITY / 2 {
            self.buffer.shrink_to(KEEP_CAPACITY);
        }
    }
}
