//! Groups and roles that a VOMS server attests in a proxy: RFC 5755 attribute certificates, verified in full.
//!
//! [`verify`] is a pure function over a proven chain, the configured authorities, the loaded `vomsdir` and a time. It gives
//! FQANs in the order of the certificate; the first is the primary group. What it checks, each with its own refusal: the
//! holder is the end-entity certificate of the chain (issuer and serial); the signer is the issuer that the certificate
//! names, is listed for the VO (`.lsc`, or a certificate in `vomsdir`) and has a path to an authority; signature, validity,
//! targets, critical extensions, noRevAvail, authorityKeyIdentifier; every FQAN lies within the VO.
//!
//! Stricter than libvomsapi on purpose: certificates inside of the attribute certificate are never trusted by themselves;
//! the end of validity knows no grace; a holder named by subject instead of issuer (VOMS before 2006) is refused; one bad
//! attribute certificate refuses the caller, so that nobody works unknowingly with fewer rights.

use super::{
    certificate::Certificate,
    chain::{self, Proven},
    trust::TrustStore,
};

pub mod attribute_certificate;
pub mod directory;
pub mod fqan;
mod verify;

pub use self::directory::VomsDirectory;

/// What a VOMS server attested.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attested {
    /// The FQANs of all attribute certificates in order, normalised; the first is the primary group.
    pub fqans: Vec<String>,
    /// The VO, its server and the serial number of each attribute certificate, for the audit log.
    pub sources: Vec<String>,
    /// The second up to which all of it is valid.
    pub valid_until: i64,
}

/// An attribute certificate that is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not the structure it should be.
    #[error("the VOMS extension cannot be parsed")]
    Malformed,
    /// Too many attribute certificates.
    #[error("the proxy holds more than {MAX_ATTRIBUTE_CERTIFICATES} VOMS attribute certificates")]
    TooMany,
    /// The holder is somebody else.
    #[error("the VOMS attributes were granted to another certificate than the one presented")]
    OtherHolder,
    /// Not the VO's URI.
    #[error("the VOMS attributes do not name their VO and server as vo://host:port")]
    NoVo,
    /// The VO and server are not known here.
    #[error(
        "the VOMS server {host} is not known for the VO {vo}: there is neither vomsdir/{vo}/{host}.lsc nor a certificate for it"
    )]
    UnknownServer {
        /// The VO.
        vo: String,
        /// The host of the server.
        host: String,
    },
    /// The certificates do not fit the `.lsc`.
    #[error("the signer of the VOMS attributes is not the one that vomsdir/{vo}/{host}.lsc lists")]
    NotListed {
        /// The VO.
        vo: String,
        /// The host of the server.
        host: String,
    },
    /// The issuer's name is not the signer's.
    #[error("the VOMS attributes name another issuer than their signer")]
    OtherIssuer,
    /// The signature is wrong.
    #[error("the signature of the VOMS attributes is wrong, or of a kind that is not accepted")]
    Signature,
    /// The signer has no path to an authority.
    #[error("the signer of the VOMS attributes is not trusted: {0}")]
    Signer(#[source] Box<chain::Refusal>),
    /// Not valid yet.
    #[error("the VOMS attributes are not valid yet")]
    NotYetValid,
    /// Not valid any more.
    #[error("the VOMS attributes have expired; make a new proxy with `voms-proxy-init`")]
    Expired,
    /// An extension that is not understood.
    #[error("the VOMS attributes have the critical extension {0}, which is not understood")]
    CriticalExtension(String),
    /// Revocation is not excluded.
    #[error("the VOMS attributes lack noRevAvail: whether they were revoked cannot be found out")]
    Revocable,
    /// The key identifier is missing or names another key.
    #[error("the VOMS attributes lack an authorityKeyIdentifier that names their signer's key")]
    KeyIdentifier,
    /// For other services.
    #[error("the VOMS attributes are meant for other services than this one (targets)")]
    OtherTarget,
    /// An FQAN outside of the VO.
    #[error("the VOMS server of {vo} attests a group outside of that VO, or one that cannot be read")]
    OutsideOfVo {
        /// The VO.
        vo: String,
    },
}

/// Verifies the VOMS attributes of a chain, if it has any: those of the proxy nearest to the key that was used.
///
/// `names` are the host names under which this node may be targeted.
///
/// # Errors
/// [`Refusal`] when any attribute certificate cannot be believed.
pub fn verify(
    proven: &Proven,
    trust: &TrustStore,
    vomsdir: &VomsDirectory,
    names: &[String],
    now: i64,
) -> Result<Option<Attested>, Refusal> {
    let Some(extension) = proven.proxies.iter().find_map(|proxy| proxy.extensions().voms.as_deref()) else {
        return Ok(None);
    };
    let certificates = attribute_certificate::parse_sequence(extension)?;
    let mut attested = Attested { fqans: Vec::new(), sources: Vec::new(), valid_until: i64::MAX };
    for certificate in &certificates {
        let one = verify::verify(certificate, &proven.end_entity, trust, vomsdir, names, now)?;
        for fqan in one.fqans {
            if !attested.fqans.contains(&fqan) {
                attested.fqans.push(fqan);
            }
        }
        attested.sources.extend(one.sources);
        attested.valid_until = attested.valid_until.min(one.valid_until);
    }
    Ok(Some(attested))
}

/// The most attribute certificates of one proxy.
pub const MAX_ATTRIBUTE_CERTIFICATES: usize = 8;

/// Whether the certificate holds VOMS attributes, for messages.
pub fn has_attributes(certificate: &Certificate) -> bool {
    certificate.extensions().voms.is_some()
}
