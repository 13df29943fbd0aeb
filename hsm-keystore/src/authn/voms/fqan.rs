//! Fully qualified attribute names: `/vo[/group…][/Role=role][/Capability=capability]`.
//!
//! The real VOMS daemon writes `/Role=NULL/Capability=NULL`, others leave them out: both mean that there is none, and the
//! shortest form is the one that is compared.

/// The normal form of an FQAN; `None` if it is not one.
pub fn normalise(text: &str) -> Option<String> {
    if text.len() > MAX_FQAN {
        return None;
    }
    let parts = text.strip_prefix('/')?.split('/');
    let (mut normal, mut role, mut capability) = (String::with_capacity(text.len()), false, false);
    for (position, part) in parts.enumerate() {
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        match part.split_once('=') {
            None if plain(part) && !role && !capability && !matches!(part, "." | "..") => {}
            Some(("Role", "NULL")) if position > 0 && !role && !capability => {
                role = true;
                continue;
            }
            Some(("Capability", "NULL")) if position > 0 && !capability => {
                capability = true;
                continue;
            }
            Some(("Role", value)) if position > 0 && !role && !capability && plain(value) => role = true,
            Some(("Capability", value)) if position > 0 && !capability && plain(value) => capability = true,
            _ => return None,
        }
        normal.push('/');
        normal.push_str(part);
    }
    Some(normal)
}

/// Whether a normalised FQAN or group path is this one, or below it.
pub fn is_within(fqan: &str, base: &str) -> bool {
    fqan.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether this is the name of a VO: also the name of a directory, so nothing that leads elsewhere.
pub fn is_vo_name(text: &str) -> bool {
    !text.contains(['/', '=']) && normalise(&format!("/{text}")).is_some()
}

/// The longest FQAN.
pub const MAX_FQAN: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_role_and_capability_are_dropped_and_others_kept() {
        for (given, normal) in [
            ("/myvo", "/myvo"),
            ("/myvo/Role=NULL/Capability=NULL", "/myvo"),
            ("/myvo/Role=NULL", "/myvo"),
            ("/myvo/Capability=NULL", "/myvo"),
            ("/myvo/radiology/Role=physician/Capability=NULL", "/myvo/radiology/Role=physician"),
            ("/myvo/radiology/Role=physician", "/myvo/radiology/Role=physician"),
            ("/my.vo-1/a_b", "/my.vo-1/a_b"),
            ("/myvo/Role=a/Capability=b", "/myvo/Role=a/Capability=b"),
        ] {
            assert_eq!(normalise(given).as_deref(), Some(normal), "{given}");
        }
    }

    #[test]
    fn what_is_not_an_fqan_is_refused() {
        for wrong in [
            "",
            "/",
            "myvo",
            "/myvo/",
            "//myvo",
            "/myvo//a",
            "/my vo",
            "/myvo/Role=",
            "/Role=a",
            "/myvo/Role=a/group",
            "/myvo/Role=a/Role=b",
            "/myvo/Role=NULL/Role=b",
            "/myvo/Capability=b/Role=a",
            "/myvo/role=a",
            "/myvo/a=b",
            "/myvo/..",
            "/myvo/\n",
            "/myvo/ü",
            "/myvo/Role=a=b",
        ] {
            assert_eq!(normalise(wrong), None, "{wrong:?}");
        }
        assert_eq!(normalise(&format!("/{}", "a".repeat(MAX_FQAN))), None);
    }

    #[test]
    fn a_vo_is_not_a_prefix_of_another() {
        assert!(is_within("/myvo", "/myvo") && is_within("/myvo/a", "/myvo") && is_within("/myvo/Role=a", "/myvo"));
        assert!(!is_within("/myvo2", "/myvo") && !is_within("/other", "/myvo") && !is_within("/my", "/myvo"));
        assert!(
            is_vo_name("myvo") && !is_vo_name("..") && !is_vo_name("a/b") && !is_vo_name("") && !is_vo_name("Role=x")
        );
    }
}
