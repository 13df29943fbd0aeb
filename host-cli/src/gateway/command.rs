//! Command sets: the group 0000 elements that say what a DICOM message wants, or what came of it (PS3.7, annex E).
//!
//! They are always implicit VR little endian. Only the elements that the gateway needs are kept.

use std::collections::BTreeMap;

/// What a message wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Store,
    Get,
    Find,
    Move,
    Echo,
    Cancel,
    Action,
    EventReport,
}

/// A command set.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Command {
    elements: BTreeMap<u16, Vec<u8>>,
}

/// What came of a request (PS3.7, annex C; PS3.4, annexes B, C and J).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Status(pub(super) u16);

impl Status {
    pub(super) const SUCCESS: Self = Self(0x0000);
    pub(super) const PENDING: Self = Self(0xFF00);
    pub(super) const CANCELLED: Self = Self(0xFE00);
    /// Sub-operations complete, one or more failures.
    pub(super) const SOME_FAILED: Self = Self(0xB000);
    pub(super) const OUT_OF_RESOURCES: Self = Self(0xA700);
    /// Unable to perform sub-operations.
    pub(super) const NONE_SENT: Self = Self(0xA702);
    pub(super) const UNKNOWN_DESTINATION: Self = Self(0xA801);
    /// The data set does not match the command, or the SOP class of the query.
    pub(super) const MISMATCH: Self = Self(0xA900);
    pub(super) const CANNOT_UNDERSTAND: Self = Self(0xC000);
    pub(super) const NOT_AUTHORISED: Self = Self(0x0124);
    pub(super) const DUPLICATE_INSTANCE: Self = Self(0x0111);
    pub(super) const UNRECOGNIZED_OPERATION: Self = Self(0x0211);
}

/// Elements of group 0000.
pub(super) mod element {
    pub(in crate::gateway) const AFFECTED_SOP_CLASS: u16 = 0x0002;
    pub(in crate::gateway) const REQUESTED_SOP_CLASS: u16 = 0x0003;
    pub(in crate::gateway) const COMMAND_FIELD: u16 = 0x0100;
    pub(in crate::gateway) const MESSAGE_ID: u16 = 0x0110;
    pub(in crate::gateway) const RESPONDED_TO: u16 = 0x0120;
    pub(in crate::gateway) const MOVE_DESTINATION: u16 = 0x0600;
    pub(in crate::gateway) const PRIORITY: u16 = 0x0700;
    pub(in crate::gateway) const DATA_SET_TYPE: u16 = 0x0800;
    pub(in crate::gateway) const STATUS: u16 = 0x0900;
    pub(in crate::gateway) const ERROR_COMMENT: u16 = 0x0902;
    pub(in crate::gateway) const AFFECTED_SOP_INSTANCE: u16 = 0x1000;
    pub(in crate::gateway) const REMAINING: u16 = 0x1020;
    pub(in crate::gateway) const COMPLETED: u16 = 0x1021;
    pub(in crate::gateway) const FAILED: u16 = 0x1022;
    pub(in crate::gateway) const WARNING: u16 = 0x1023;
    pub(in crate::gateway) const ORIGINATOR: u16 = 0x1030;
    pub(in crate::gateway) const ORIGINATOR_MESSAGE: u16 = 0x1031;
    pub(in crate::gateway) const REQUESTED_SOP_INSTANCE: u16 = 0x1001;
    pub(in crate::gateway) const EVENT_TYPE: u16 = 0x1002;
    pub(in crate::gateway) const ACTION_TYPE: u16 = 0x1008;
}

impl Command {
    /// Reads a command set; nothing when it is not one.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut elements = BTreeMap::new();
        while !bytes.is_empty() {
            let (header, rest) = bytes.split_first_chunk::<8>()?;
            let [g0, g1, e0, e1, l0, l1, l2, l3] = *header;
            let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
            let (value, rest) = rest.split_at_checked(length)?;
            if [g0, g1] != [0, 0] || elements.insert(u16::from_le_bytes([e0, e1]), value.to_vec()).is_some() {
                return None;
            }
            bytes = rest;
        }
        Some(Self { elements })
    }

    /// Its bytes, with the group length.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (element, value) in self.elements.iter().filter(|(element, _)| **element != 0) {
            put(&mut body, *element, value);
        }
        let mut out = Vec::with_capacity(body.len() + 12);
        put(&mut out, 0, &u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// A request of this kind.
    pub(super) fn request(field: u16, message: u16) -> Self {
        Self::default().with_number(element::COMMAND_FIELD, field).with_number(element::MESSAGE_ID, message)
    }

    /// The answer to a request, without a data set.
    pub(super) fn answer(&self, status: Status) -> Self {
        let field = self.number(element::COMMAND_FIELD).unwrap_or_default() | RESPONSE;
        let mut answer = Self::default()
            .with_number(element::COMMAND_FIELD, field)
            .with_number(element::RESPONDED_TO, self.message_id())
            .with_number(element::DATA_SET_TYPE, NO_DATA_SET)
            .with_number(element::STATUS, status.0);
        for (from, to) in [
            (element::AFFECTED_SOP_CLASS, element::AFFECTED_SOP_CLASS),
            (element::REQUESTED_SOP_CLASS, element::AFFECTED_SOP_CLASS),
            (element::AFFECTED_SOP_INSTANCE, element::AFFECTED_SOP_INSTANCE),
            (element::REQUESTED_SOP_INSTANCE, element::AFFECTED_SOP_INSTANCE),
            (element::ACTION_TYPE, element::ACTION_TYPE),
        ] {
            if let Some(value) = self.elements.get(&from) {
                answer.elements.insert(to, value.clone());
            }
        }
        answer
    }

    pub(super) fn with_number(mut self, element: u16, number: u16) -> Self {
        self.elements.insert(element, number.to_le_bytes().to_vec());
        self
    }

    /// A text is padded as its VR wants: UIDs with a zero byte, others with a blank.
    pub(super) fn with_text(mut self, element: u16, text: &str) -> Self {
        let uid = matches!(
            element,
            element::AFFECTED_SOP_CLASS
                | element::REQUESTED_SOP_CLASS
                | element::AFFECTED_SOP_INSTANCE
                | element::REQUESTED_SOP_INSTANCE
        );
        let mut value = text.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(if uid { 0 } else { b' ' });
        }
        self.elements.insert(element, value);
        self
    }

    /// Why it failed, in at most the 64 characters that the standard allows.
    pub(super) fn with_comment(self, comment: &str) -> Self {
        let comment: String = comment.chars().filter(|c| c.is_ascii() && !c.is_ascii_control() && *c != '\\').collect();
        let short: String = comment.chars().take(64).collect();
        self.with_text(element::ERROR_COMMENT, &short)
    }

    pub(super) fn with_data_set(self) -> Self {
        self.with_number(element::DATA_SET_TYPE, 0)
    }

    /// What the message wants; nothing for an answer and for what is not known.
    pub(super) fn kind(&self) -> Option<Kind> {
        Some(match self.number(element::COMMAND_FIELD)? {
            0x0001 => Kind::Store,
            0x0010 => Kind::Get,
            0x0020 => Kind::Find,
            0x0021 => Kind::Move,
            0x0030 => Kind::Echo,
            0x0FFF => Kind::Cancel,
            0x0130 => Kind::Action,
            0x0100 => Kind::EventReport,
            _ => return None,
        })
    }

    pub(super) fn is_answer(&self) -> bool {
        self.number(element::COMMAND_FIELD).is_some_and(|field| field & RESPONSE != 0)
    }

    pub(super) fn has_data_set(&self) -> bool {
        self.number(element::DATA_SET_TYPE).is_some_and(|kind| kind != NO_DATA_SET)
    }

    pub(super) fn message_id(&self) -> u16 {
        self.number(element::MESSAGE_ID).unwrap_or_default()
    }

    pub(super) fn status(&self) -> Option<Status> {
        self.number(element::STATUS).map(Status)
    }

    pub(super) fn number(&self, element: u16) -> Option<u16> {
        self.elements.get(&element)?.as_slice().try_into().ok().map(u16::from_le_bytes)
    }

    pub(super) fn text(&self, element: u16) -> Option<&str> {
        let text = std::str::from_utf8(self.elements.get(&element)?).ok()?;
        Some(text.trim_matches(|c| c == ' ' || c == '\0')).filter(|text| !text.is_empty())
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({:04x?})", self.number(element::COMMAND_FIELD).unwrap_or_default())
    }
}

/// Command fields of requests that the gateway makes.
pub(super) const C_STORE: u16 = 0x0001;

fn put(out: &mut Vec<u8>, element: u16, value: &[u8]) {
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&element.to_le_bytes());
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(value);
}

/// What makes the field of a request that of its answer.
const RESPONSE: u16 = 0x8000;
const NO_DATA_SET: u16 = 0x0101;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_comes_back_as_it_went() {
        let request = Command::request(C_STORE, 7)
            .with_text(element::AFFECTED_SOP_CLASS, "1.2.840.10008.5.1.4.1.1.2")
            .with_text(element::AFFECTED_SOP_INSTANCE, "1.2.3")
            .with_data_set();
        let bytes = request.encode();
        assert_eq!(bytes.len() % 2, 0);
        let read = Command::decode(&bytes).expect("decodes");
        assert_eq!(read.kind(), Some(Kind::Store));
        assert_eq!(read.text(element::AFFECTED_SOP_INSTANCE), Some("1.2.3"));
        assert!(read.has_data_set() && !read.is_answer());
        let answer = Command::decode(&read.answer(Status::DUPLICATE_INSTANCE).encode()).expect("decodes");
        assert!(answer.is_answer() && !answer.has_data_set());
        assert_eq!(answer.number(element::RESPONDED_TO), Some(7));
        assert_eq!(answer.status(), Some(Status::DUPLICATE_INSTANCE));
    }

    #[test]
    fn what_is_no_command_set_is_refused() {
        let good = Command::request(C_STORE, 7).encode();
        for (bytes, why) in [
            (good.get(..good.len() - 1).expect("shorter").to_vec(), "cut"),
            ([&good[..], &[8, 0, 0x18, 0, 0, 0, 0, 0]].concat(), "another group"),
            ([&good[..], &good[..]].concat(), "an element twice"),
            (vec![0, 0, 0, 1, 255, 255, 255, 255], "a length beyond the end"),
        ] {
            assert_eq!(Command::decode(&bytes), None, "{why}");
        }
    }

    #[test]
    fn a_comment_fits_its_element() {
        let answer = Command::request(C_STORE, 1).answer(Status::OUT_OF_RESOURCES).with_comment(&"long\n\\".repeat(40));
        assert_eq!(answer.text(element::ERROR_COMMENT).map(str::len), Some(64));
    }
}
