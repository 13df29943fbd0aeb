//! Bearer tokens: JWT by issuers that the officer lists, in the WLCG profile v1.1 or as plain OIDC (Keycloak and others).
//!
//! [`verify`] is a pure function over a token, what is configured for its issuer, the issuer's keys and a time; fetching
//! keys is [`issuers`]' work. The caller is the `sub` of the token, in the namespace of its `iss`, compared byte by byte.
//!
//! Verified by aws-lc-rs over the compact form as received. Of the libraries, `jsonwebtoken` was looked at: it took `exp`
//! and `nbf` of a wrong type for absent until 10.3 (CVE-2026-25537), knows HMAC algorithms that must not exist here, and
//! leaves `crit`, duplicate members, `typ`, `cnf` and the choice of a key to its caller. What it would save is a hundred
//! lines; what it would add is a second opinion on types that must be strict. So the strict part is ours, in the open.
//!
//! * Algorithms: RS256–512, PS256–512, ES256, ES384, of which the issuer's list must hold the token's; `none` and HMAC
//!   cannot be expressed. The key must be of the algorithm's kind and, where it names an algorithm or use, of that one.
//! * A JSON member that stands twice, a `crit` header, a token bound to a key (`cnf`) and one of another type
//!   (ID tokens, logout tokens) are refused.
//! * An issuer speaks for the groups below its own prefix only, so that no two issuers (and no VO) speak for one group.

use serde_json::Value;

mod claims;
mod compact;
pub mod https;
pub mod issuers;
pub mod key_set;
mod strict_json;

pub use self::{compact::Token, key_set::KeySet};

/// A signature algorithm of RFC 7518.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

impl Algorithm {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Rs256, "RS256"),
        (Self::Rs384, "RS384"),
        (Self::Rs512, "RS512"),
        (Self::Ps256, "PS256"),
        (Self::Ps384, "PS384"),
        (Self::Ps512, "PS512"),
        (Self::Es256, "ES256"),
        (Self::Es384, "ES384"),
    ];
    /// What an issuer may use when its configuration does not say.
    pub const DEFAULT: [Self; 4] = [Self::Rs256, Self::Ps256, Self::Es256, Self::Es384];

    /// The algorithm of this name; `None` for `none`, HMAC and everything else.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(algorithm, _)| *algorithm)
    }

    /// The name of RFC 7518.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(algorithm, _)| *algorithm == self).map_or("", |(_, name)| name)
    }
}

/// Which rules a token follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// WLCG Common JWT Profiles 1.x: `wlcg.ver`, `iat`, `nbf` and `jti` are needed.
    Wlcg,
    /// OpenID Connect as it is.
    Oidc,
}

/// How a claim becomes groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupRule {
    /// The claim: its name, or a JSON pointer (`/realm_access/roles`).
    pub claim: String,
    /// The group path that the issuer speaks for, such as `/myvo`.
    pub prefix: String,
    /// Whether the claim holds names below the prefix; otherwise full paths, of which one outside refuses the token.
    pub relative: bool,
}

/// What is configured for one issuer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issuer {
    /// The `iss`, an https URL, exactly as tokens and discovery have it.
    pub url: String,
    /// The `aud` values that mean this service.
    pub audiences: Vec<String>,
    /// The algorithms it may use.
    pub algorithms: Vec<Algorithm>,
    /// The rules of its tokens.
    pub profile: Profile,
    /// How many seconds its clock may differ.
    pub skew: i64,
    /// The longest life of a token, in seconds, where the officer sets one.
    pub max_lifetime: Option<i64>,
    /// Where groups come from.
    pub groups: Option<GroupRule>,
}

/// The caller that a token proves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proven {
    /// The `iss`.
    pub issuer: String,
    /// The `sub`.
    pub subject: String,
    /// The groups in order; the first is the primary one.
    pub groups: Vec<String>,
    /// The second up to which it is valid.
    pub valid_until: i64,
    /// The `jti`, for the audit log.
    pub id: Option<String>,
    /// The algorithm and the id of the key.
    pub key: String,
}

/// A token that proves nobody.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Longer than any real token.
    #[error("the token is longer than {MAX_TOKEN} bytes")]
    TooLong,
    /// Not three parts of base64url.
    #[error("the token is not in the compact form of a signed JWT")]
    NotCompact,
    /// Header or claims are not a JSON object, or a member stands twice.
    #[error("the token's {0} is not a JSON object whose members stand once")]
    NotJson(&'static str),
    /// `crit` in the header.
    #[error("the token's header has critical parameters, none of which is understood")]
    CriticalHeader,
    /// Not an access token.
    #[error("the token's typ is not that of a JWT")]
    Type,
    /// An ID token, a logout token, a refresh token.
    #[error("the token is one of another kind (an ID token, for example) and no access token")]
    NotAccess,
    /// A header parameter of a wrong type.
    #[error("the token's header parameter {0} is missing or not what it should be")]
    Header(&'static str),
    /// An algorithm that is not accepted.
    #[error("the token's algorithm is not accepted for its issuer")]
    Algorithm,
    /// An issuer that is not listed.
    #[error("the token's issuer is not one that this node accepts")]
    UnknownIssuer,
    /// The issuer has no such key.
    #[error("the token is signed by a key that its issuer does not publish")]
    UnknownKey,
    /// Several keys could be meant.
    #[error("the token does not say which of its issuer's keys it is signed by")]
    AmbiguousKey,
    /// The key is for something else.
    #[error("the token's key is not one for its algorithm")]
    OtherKey,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    Signature,
    /// Not valid any more.
    #[error("the token has expired; get a new one")]
    Expired,
    /// Not valid yet.
    #[error("the token is not valid yet (nbf or iat)")]
    NotYetValid,
    /// A claim that is missing or of a wrong type.
    #[error("the token's claim {0} is missing or not what it should be")]
    Claim(&'static str),
    /// For another service.
    #[error("the token is meant for another service (aud)")]
    Audience,
    /// Valid for longer than allowed.
    #[error("the token is valid for longer than this node allows")]
    Lifetime,
    /// Bound to a key.
    #[error("the token is bound to a key (cnf) and no bearer token")]
    Bound,
    /// A group of somebody else.
    #[error("the token's issuer names a group that it may not speak for")]
    Group,
    /// The issuer's keys cannot be had.
    #[error("the keys of the token's issuer cannot be fetched now; try again later")]
    Unavailable,
}

/// Verifies a token of this issuer.
///
/// # Errors
/// [`Refusal`]; [`Refusal::UnknownKey`] may mean that the issuer has new keys.
pub fn verify(token: &Token, issuer: &Issuer, keys: &KeySet, now: i64) -> Result<Proven, Refusal> {
    if token.issuer() != Some(issuer.url.as_str()) {
        return Err(Refusal::UnknownIssuer);
    }
    let algorithm = Algorithm::by_name(token.algorithm()).filter(|algorithm| issuer.algorithms.contains(algorithm));
    let algorithm = algorithm.ok_or(Refusal::Algorithm)?;
    let key = keys.choose(token.key_id(), algorithm)?;
    key.verify(algorithm, token.signed(), token.signature()).map_err(|_| Refusal::Signature)?;
    let mut proven = claims::check(token.claims(), issuer, now)?;
    proven.key = match token.key_id() {
        Some(id) => format!(
            "{} {}",
            algorithm.name(),
            id.chars().filter(|character| !character.is_control()).collect::<String>()
        ),
        None => algorithm.name().to_owned(),
    };
    Ok(proven)
}

fn text<'a>(value: Option<&'a Value>, name: &'static str) -> Result<&'a str, Refusal> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or(Refusal::Claim(name))
}

/// The longest token, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
