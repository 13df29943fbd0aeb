//! Syslog messages (RFC 5424) and their frames on a TLS stream (RFC 5425, octet counting).
//!
//! Facility 10 (security), severity by outcome; the message id is the one of DICOM PS3.15, A.6. Structured data tells
//! the entry and its part, by which a receiver knows a message that it got twice.

use super::{Indicator, Message, time};

/// The names in the header of every message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// The name of this machine, at most 255 printable ASCII characters.
    pub host: String,
    /// The id of this process.
    pub process: u32,
}

/// One message in its frame: its length in bytes, a space, and the message.
pub fn frame(header: &Header, message: &Message) -> Vec<u8> {
    let text = format(header, message);
    let mut frame = format!("{} ", text.len()).into_bytes();
    frame.extend_from_slice(text.as_bytes());
    frame
}

fn format(header: &Header, message: &Message) -> String {
    let severity = match message.outcome {
        Indicator::Success => 5,
        Indicator::MinorFailure => 4,
        Indicator::SeriousFailure => 3,
    };
    format!(
        "<{}>1 {} {} eds-keystored {} DICOM+RFC3881 [eds@{ENTERPRISE} entry=\"{}\" part=\"{}\" parts=\"{}\"] \u{feff}{}",
        SECURITY * 8 + severity,
        time::rfc3339(message.time),
        printable(&header.host),
        header.process,
        message.sequence,
        message.part,
        message.parts,
        message.xml
    )
}

/// A header field: printable ASCII without spaces, or `-`.
fn printable(name: &str) -> String {
    let name: String = name.chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// Facility 10, security and authorization.
const SECURITY: u32 = 10;
/// The private enterprise number in the name of the structured data: the one of RFC 5612 for documents.
const ENTERPRISE: u32 = 32473;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_count_bytes_and_fields_stand_where_rfc_5424_has_them() {
        let header = Header { host: "nöde 1".to_owned(), process: 7 };
        let message = Message {
            sequence: 41,
            part: 1,
            parts: 2,
            time: 1_764_000_000_123,
            outcome: Indicator::MinorFailure,
            xml: "<é/>".to_owned(),
        };
        let frame = String::from_utf8(frame(&header, &message)).expect("UTF-8");
        let (length, text) = frame.split_once(' ').expect("a count");
        assert_eq!(length.parse(), Ok(text.len()));
        assert_eq!(
            text,
            "<84>1 2025-11-24T16:00:00.123Z nde1 eds-keystored 7 DICOM+RFC3881 \
             [eds@32473 entry=\"41\" part=\"1\" parts=\"2\"] \u{feff}<é/>"
        );
        let nameless = Header { host: " ".to_owned(), process: 7 };
        assert!(format(&nameless, &message).contains("Z - eds-keystored"));
    }
}
