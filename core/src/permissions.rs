//! What may be done with a key: eight permissions and sets of them, with their letters.
//!
//! Letters, bits and printed form are those of gLite Hydra, whose commands and scripts people know.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// One thing that may be done with a key, as a bit of a [`Permissions`] set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Permission {
    /// `p`: change permissions and access list.
    Change = 1,
    /// `d`: delete the key.
    Delete = 2,
    /// `r`: read (kept for the original's commands; nothing here needs it).
    Read = 4,
    /// `w`: write (kept for the original's commands).
    Write = 8,
    /// `x`: execute (kept for the original's commands).
    Execute = 16,
    /// `l`: read what is known of the key, and its access list.
    List = 32,
    /// `g`: fetch the share.
    Fetch = 64,
    /// `s`: set metadata (kept for the original's commands).
    SetMetadata = 128,
}

/// The permissions in the order in which they are printed, with their letters.
pub const LETTERS: [(Permission, char); 8] = [
    (Permission::Change, 'p'),
    (Permission::Delete, 'd'),
    (Permission::Read, 'r'),
    (Permission::Write, 'w'),
    (Permission::List, 'l'),
    (Permission::Execute, 'x'),
    (Permission::Fetch, 'g'),
    (Permission::SetMetadata, 's'),
];

impl Permission {
    /// Its letter.
    pub fn letter(self) -> char {
        LETTERS.iter().find(|(permission, _)| *permission == self).map_or('?', |(_, letter)| *letter)
    }

    /// The permission with this letter.
    pub fn of_letter(letter: char) -> Option<Self> {
        LETTERS.iter().find(|(_, known)| *known == letter).map(|(permission, _)| *permission)
    }
}

/// A set of permissions, printed as eight characters such as `pdrwl-gs`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Permissions(u8);

impl Permissions {
    /// No permission.
    pub const NONE: Self = Self(0);
    /// What the owner of a new key may do: `pdrwl-gs`, everything but `x`.
    pub const OWNER: Self = Self(!(Permission::Execute as u8));

    /// The set with these bits.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits of the set.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether the permission is in the set.
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & permission as u8 != 0
    }

    /// The set with the permission added.
    #[must_use]
    pub const fn with(self, permission: Permission) -> Self {
        Self(self.0 | permission as u8)
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Reads letters in any order, such as `pdrwl-gs` or `lg`. A `-` stands for a permission that is not there.
impl FromStr for Permissions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.chars().try_fold(Self::NONE, |set, letter| match letter {
            '-' => Ok(set),
            letter => Permission::of_letter(letter).map(|permission| set.with(permission)).ok_or(Error::Malformed),
        })
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        LETTERS.iter().try_for_each(|(permission, letter)| {
            let shown = if self.has(*permission) { *letter } else { '-' };
            write!(f, "{shown}")
        })
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permissions({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn the_printed_form_is_the_originals() {
        assert_eq!(Permissions::OWNER.to_string(), "pdrwl-gs");
        assert_eq!(Permissions::NONE.to_string(), "--------");
        assert_eq!(Permissions::from_bits(255).to_string(), "pdrwlxgs");
        assert_eq!(Permissions::from_bits(1 | 2 | 64).to_string(), "pd----g-");
        assert_eq!(Permissions::from_bits(32 | 16).to_string(), "----lx--");
    }

    #[test]
    fn every_set_is_read_back_and_other_letters_are_not() {
        for bits in 0..=u8::MAX {
            let set = Permissions::from_bits(bits);
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        assert_eq!("gl".parse(), Ok(Permissions::from_bits(96)));
        for wrong in ["q", "G", "pdrwl gs", "u+g"] {
            assert_eq!(wrong.parse::<Permissions>(), Err(Error::Malformed), "{wrong}");
        }
    }
}
