//! The claims of a token whose signature is good.

use serde_json::{Map, Value};

use super::{GroupRule, Issuer, Profile, Proven, Refusal, text};
use crate::authn::voms::fqan::{is_within, normalise};

/// Checks all claims and gives the caller.
pub(super) fn check(claims: &Map<String, Value>, issuer: &Issuer, now: i64) -> Result<Proven, Refusal> {
    let subject = text(claims.get("sub"), "sub")?;
    if subject.len() > MAX_SUBJECT {
        return Err(Refusal::Claim("sub"));
    }
    if claims.contains_key("cnf") {
        return Err(Refusal::Bound);
    }
    check_kind(claims)?;
    check_audience(claims.get("aud"), &issuer.audiences)?;
    let expires = seconds(claims, "exp")?.ok_or(Refusal::Claim("exp"))?;
    let not_before = seconds(claims, "nbf")?;
    let issued = seconds(claims, "iat")?;
    if now.saturating_sub(issuer.skew) >= expires {
        return Err(Refusal::Expired);
    }
    let latest = now.saturating_add(issuer.skew);
    if not_before.is_some_and(|time| time > latest) || issued.is_some_and(|time| time > latest) {
        return Err(Refusal::NotYetValid);
    }
    if let Some(longest) = issuer.max_lifetime {
        let start = issued.or(not_before).ok_or(Refusal::Claim("iat"))?;
        if expires.saturating_sub(start) > longest {
            return Err(Refusal::Lifetime);
        }
    }
    if issuer.profile == Profile::Wlcg {
        if !matches!(text(claims.get("wlcg.ver"), "wlcg.ver")?, "1.0" | "1.1") {
            return Err(Refusal::Claim("wlcg.ver"));
        }
        not_before.ok_or(Refusal::Claim("nbf"))?;
        issued.ok_or(Refusal::Claim("iat"))?;
        text(claims.get("jti"), "jti")?;
    }
    let groups = match &issuer.groups {
        Some(rule) => groups(claims, rule)?,
        None => Vec::new(),
    };
    let id = match claims.get("jti") {
        None => None,
        id => Some(text(id, "jti")?.chars().filter(|character| !character.is_control()).take(MAX_ID).collect()),
    };
    Ok(Proven {
        issuer: issuer.url.clone(),
        subject: subject.to_owned(),
        groups,
        // No later than it stays acceptable.
        valid_until: expires.saturating_add(issuer.skew).saturating_sub(1),
        id,
        key: String::new(),
    })
}

/// One key signs tokens of several kinds, and one audience may stand in all of them (RFC 8725 section 3.12). Refused are what
/// is no access token by claims that only others have: the hash of another token (OpenID Connect Core section 3.1.3.6), an
/// event (RFC 8417, logout tokens); and by Keycloak's claim `typ`.
fn check_kind(claims: &Map<String, Value>) -> Result<(), Refusal> {
    let of_others = ["at_hash", "c_hash", "s_hash", "events"].iter().any(|claim| claims.contains_key(*claim));
    let of_access = |kind: &str| ["Bearer", "JWT", "at+jwt"].iter().any(|known| kind.eq_ignore_ascii_case(known));
    let typed_otherwise = claims.get("typ").is_some_and(|kind| !kind.as_str().is_some_and(of_access));
    if of_others || typed_otherwise { Err(Refusal::NotAccess) } else { Ok(()) }
}

fn check_audience(claim: Option<&Value>, accepted: &[String]) -> Result<(), Refusal> {
    let is_ours = |value: &str| accepted.iter().any(|name| name == value);
    let found = match claim {
        Some(Value::String(one)) => is_ours(one),
        Some(Value::Array(list)) => {
            let list: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            list.ok_or(Refusal::Claim("aud"))?.into_iter().any(is_ours)
        }
        _ => return Err(Refusal::Claim("aud")),
    };
    if found { Ok(()) } else { Err(Refusal::Audience) }
}

/// A NumericDate: whole seconds; a fraction is cut off.
fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            let whole = number.as_i64().or_else(|| {
                let float = number.as_f64().filter(|float| (0.0..=MAX_SECONDS).contains(float))?;
                // In range: checked above.
                Some(float.trunc() as i64)
            });
            whole.filter(|whole| *whole >= 0).map(Some).ok_or(Refusal::Claim(name))
        }
        Some(_) => Err(Refusal::Claim(name)),
    }
}

fn groups(claims: &Map<String, Value>, rule: &GroupRule) -> Result<Vec<String>, Refusal> {
    let claim = if rule.claim.starts_with('/') {
        let (first, rest) = rule
            .claim
            .get(1..)
            .and_then(|path| path.split_once('/'))
            .unwrap_or((rule.claim.get(1..).unwrap_or(""), ""));
        let top = claims.get(first);
        if rest.is_empty() { top } else { top.and_then(|value| value.pointer(&format!("/{rest}"))) }
    } else {
        claims.get(&rule.claim)
    };
    let list = match claim {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_GROUPS => list,
        Some(_) => return Err(Refusal::Claim("groups")),
    };
    let mut groups = Vec::new();
    for value in list {
        let name = value.as_str().ok_or(Refusal::Claim("groups"))?;
        let plain = Some(name).filter(|name| !name.contains('='));
        let group = if rule.relative {
            // A name that no access list can hold, such as one with spaces, gives no right and does no harm.
            match plain
                .and_then(|name| normalise(&format!("{}/{}", rule.prefix, name.strip_prefix('/').unwrap_or(name))))
            {
                Some(group) => group,
                None => continue,
            }
        } else {
            plain.and_then(normalise).filter(|group| is_within(group, &rule.prefix)).ok_or(Refusal::Group)?
        };
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Ok(groups)
}

/// The end of the year 9999.
const MAX_SECONDS: f64 = 253_402_300_799.0;
/// OpenID Connect Core section 2.
const MAX_SUBJECT: usize = 255;
const MAX_ID: usize = 128;
const MAX_GROUPS: usize = 1024;
