//! What goes over the socket: a message is its length (u32 LE) and that many bytes; in it numbers are u64 LE, and bytes
//! follow their length. A request begins with the name of the function, an answer with its return value.

use std::io::{self, Read, Write};

/// Writes a message.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// Adds a number.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// Adds bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self = self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds a length, or that there is no buffer.
    #[must_use]
    pub fn room(self, room: Option<u64>) -> Self {
        self.number(u64::from(room.is_some())).number(room.unwrap_or(0))
    }
}

/// Reads a message. What is missing is an error, since both ends are ours.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Vec<u8>,
    at: usize,
}

impl Reader {
    /// A reader of this message.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next number.
    ///
    /// # Errors
    /// When the message ends.
    pub fn number(&mut self) -> io::Result<u64> {
        let bytes = self.take(8)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The next bytes.
    ///
    /// # Errors
    /// When the message ends.
    pub fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()? as usize;
        self.take(length).map(<[u8]>::to_vec)
    }

    /// The next length of a buffer, if there is one.
    ///
    /// # Errors
    /// When the message ends.
    pub fn room(&mut self) -> io::Result<Option<u64>> {
        let (there, room) = (self.number()?, self.number()?);
        Ok((there != 0).then_some(room))
    }

    fn take(&mut self, length: usize) -> io::Result<&[u8]> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let taken = self.bytes.get(self.at..end).unwrap_or_default();
        self.at = end;
        Ok(taken)
    }
}

/// Sends a message.
///
/// # Errors
/// When the other end is gone.
pub fn send(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_le_bytes(), message].concat())
}

/// Receives a message.
///
/// # Errors
/// When the other end is gone.
pub fn receive(from: &mut impl Read) -> io::Result<Reader> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut message)?;
    Ok(Reader::new(message))
}
