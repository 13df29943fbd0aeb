//! Certificates, revocation lists and attribute certificates with every field at the test's will, good or bad.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use der::Encode;

/// A time in the middle of everything's validity.
pub(crate) const NOW: i64 = 1_900_000_000;
pub(crate) const DAY: i64 = 86_400;

pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        length @ 0..0x80 => out.push(length as u8),
        length @ 0x80..0x100 => out.extend([0x81, length as u8]),
        length @ 0x100..0x1_0000 => out.extend([0x82, (length >> 8) as u8, length as u8]),
        length => out.extend([0x83, (length >> 16) as u8, (length >> 8) as u8, length as u8]),
    }
    out.extend(content);
    out
}

pub(crate) fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    der::asn1::ObjectIdentifier::new(dotted).expect("an identifier").to_der().expect("fits")
}

pub(crate) fn integer(content: &[u8]) -> Vec<u8> {
    tlv(0x02, &[content])
}

pub(crate) fn time(seconds: i64) -> Vec<u8> {
    let since = Duration::from_secs(u64::try_from(seconds).expect("after 1970"));
    der::asn1::GeneralizedTime::from_unix_duration(since).expect("a time").to_der().expect("fits")
}

/// A name in slash form, each value a UTF8String.
pub(crate) fn name(slashes: &str) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = slashes.split('/').filter(|part| !part.is_empty()).map(relative_name).collect();
    seq(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn relative_name(part: &str) -> Vec<u8> {
    let (label, value) = part.split_once('=').expect("label=value");
    rdn(label, 0x0c, value.as_bytes())
}

/// A relative name with one attribute; `tag` is that of the string.
pub(crate) fn rdn(label: &str, tag: u8, value: &[u8]) -> Vec<u8> {
    let kind = match label {
        "CN" => "2.5.4.3",
        "O" => "2.5.4.10",
        "OU" => "2.5.4.11",
        "C" => "2.5.4.6",
        "DC" => "0.9.2342.19200300.100.1.25",
        "emailAddress" => "1.2.840.113549.1.9.1",
        other => other,
    };
    tlv(0x31, &[&seq(&[&oid(kind), &tlv(tag, &[value])])])
}

/// A name with one more common name.
pub(crate) fn with_cn(base: &[u8], cn: &str) -> Vec<u8> {
    let inner = &base[if base[1] < 0x80 { 2 } else { 2 + usize::from(base[1] & 0x7f) }..];
    seq(&[inner, &rdn("CN", 0x0c, cn.as_bytes())])
}

pub(crate) fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag = if critical { tlv(0x01, &[&[0xff]]) } else { Vec::new() };
    seq(&[&oid(id), &flag, &tlv(0x04, &[value])])
}

pub(crate) fn basic_constraints(authority: bool, path_length: Option<u8>) -> Vec<u8> {
    let flag = if authority { tlv(0x01, &[&[0xff]]) } else { Vec::new() };
    let length = path_length.map_or(Vec::new(), |length| integer(&[length]));
    extension("2.5.29.19", true, &seq(&[&flag, &length]))
}

pub(crate) fn key_usage(bits: u8) -> Vec<u8> {
    extension("2.5.29.15", true, &tlv(0x03, &[&[0, bits]]))
}

pub(crate) fn purposes(ids: &[&str]) -> Vec<u8> {
    let ids: Vec<Vec<u8>> = ids.iter().map(|id| oid(id)).collect();
    extension("2.5.29.37", false, &seq(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

pub(crate) const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
pub(crate) const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
pub(crate) const SIGN: u8 = 0x80;
pub(crate) const CA_SIGN: u8 = 0x06;
pub(crate) const INHERIT_ALL: &str = "1.3.6.1.5.5.7.21.1";
pub(crate) const INDEPENDENT: &str = "1.3.6.1.5.5.7.21.2";
pub(crate) const LIMITED: &str = "1.3.6.1.4.1.3536.1.1.1.9";

pub(crate) fn proxy_cert_info(
    critical: bool,
    path_length: Option<u8>,
    language: &str,
    policy: Option<&[u8]>,
) -> Vec<u8> {
    let length = path_length.map_or(Vec::new(), |length| integer(&[length]));
    let policy = policy.map_or(Vec::new(), |text| tlv(0x04, &[text]));
    extension("1.3.6.1.5.5.7.1.14", critical, &seq(&[&length, &seq(&[&oid(language), &policy])]))
}

/// A key: ECDSA on P-256, or RSA with 2048 bits.
#[derive(Clone)]
pub(crate) enum Key {
    Elliptic(Arc<EcdsaKeyPair>),
    Rsa(Arc<RsaKeyPair>),
}

impl Key {
    pub(crate) fn new() -> Self {
        Self::Elliptic(Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key")))
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Self {
        Self::Elliptic(Arc::new(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).expect("a key")))
    }

    pub(crate) fn to_pkcs8(&self) -> Vec<u8> {
        match self {
            Self::Elliptic(pair) => pair.to_pkcs8v1().expect("a key").as_ref().to_vec(),
            Self::Rsa(_) => panic!("only elliptic keys leave the forge"),
        }
    }

    pub(crate) fn info(&self) -> Vec<u8> {
        let algorithm = match self {
            Self::Elliptic(_) => seq(&[&oid("1.2.840.10045.2.1"), &oid("1.2.840.10045.3.1.7")]),
            Self::Rsa(_) => seq(&[&oid("1.2.840.113549.1.1.1"), &[5, 0]]),
        };
        seq(&[&algorithm, &tlv(0x03, &[&[0], self.bits()])])
    }

    pub(crate) fn bits(&self) -> &[u8] {
        match self {
            Self::Elliptic(pair) => pair.public_key().as_ref(),
            Self::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    pub(crate) fn sha1(&self) -> Vec<u8> {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, self.bits()).as_ref().to_vec()
    }

    pub(crate) fn rsa() -> Self {
        Self::Rsa(Arc::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")))
    }

    /// The AlgorithmIdentifier of its signatures.
    pub(crate) fn algorithm(&self) -> Vec<u8> {
        match self {
            Self::Elliptic(_) => ecdsa_sha256(),
            Self::Rsa(_) => seq(&[&oid("1.2.840.113549.1.1.11"), &[5, 0]]),
        }
    }

    /// Puts a signature on signed content: SEQUENCE { content, algorithm, signature }.
    pub(crate) fn sign(&self, content: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let signature = match self {
            Self::Elliptic(pair) => pair.sign(&random, content).expect("a signature").as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, content, &mut signature).expect("a signature");
                signature
            }
        };
        seq(&[content, &self.algorithm(), &tlv(0x03, &[&[0], &signature])])
    }
}

pub(crate) fn ecdsa_sha256() -> Vec<u8> {
    seq(&[&oid("1.2.840.10045.4.3.2")])
}

/// The fields of a certificate to be.
#[derive(Clone)]
pub(crate) struct Template {
    pub(crate) version: u8,
    pub(crate) serial: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) validity: (i64, i64),
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl Template {
    pub(crate) fn new(subject: Vec<u8>, serial: u8) -> Self {
        let validity = (NOW - DAY, NOW + DAY);
        Self { version: 3, serial: vec![serial], issuer: Vec::new(), subject, validity, extensions: Vec::new() }
    }

    pub(crate) fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    /// An authority with usual extensions.
    pub(crate) fn authority(subject: &str) -> Self {
        Self::new(name(subject), 1).with(basic_constraints(true, None)).with(key_usage(CA_SIGN))
    }

    /// A person with usual extensions.
    pub(crate) fn person(subject: &str) -> Self {
        Self::new(name(subject), 7)
            .with(basic_constraints(false, None))
            .with(key_usage(SIGN))
            .with(purposes(&[CLIENT_AUTH]))
    }

    /// A proxy of this certificate.
    pub(crate) fn proxy(of: &Issued, cn: &str, language: &str) -> Self {
        Self::new(with_cn(&of.subject, cn), 9).with(key_usage(SIGN)).with(proxy_cert_info(true, None, language, None))
    }

    fn content(&self, key: &Key, signer: &Key) -> Vec<u8> {
        let version = if self.version == 1 { Vec::new() } else { tlv(0xa0, &[&integer(&[self.version - 1])]) };
        let validity = seq(&[&time(self.validity.0), &time(self.validity.1)]);
        let extensions = match self.extensions.as_slice() {
            [] => Vec::new(),
            list => tlv(0xa3, &[&seq(&list.iter().map(Vec::as_slice).collect::<Vec<_>>())]),
        };
        seq(&[
            &version,
            &integer(&self.serial),
            &signer.algorithm(),
            &self.issuer,
            &validity,
            &self.subject,
            &key.info(),
            &extensions,
        ])
    }

    pub(crate) fn self_signed(self) -> Issued {
        self.self_signed_by(Key::new())
    }

    pub(crate) fn self_signed_by(mut self, key: Key) -> Issued {
        self.issuer = self.subject.clone();
        Issued {
            der: key.sign(&self.content(&key, &key)),
            subject: self.subject,
            issuer: self.issuer,
            serial: self.serial,
            key,
        }
    }

    pub(crate) fn signed_by(self, issuer: &Issued) -> Issued {
        self.with_key_signed_by(Key::new(), issuer)
    }

    pub(crate) fn with_key_signed_by(mut self, key: Key, issuer: &Issued) -> Issued {
        if self.issuer.is_empty() {
            self.issuer = issuer.subject.clone();
        }
        let der = issuer.key.sign(&self.content(&key, &issuer.key));
        Issued { der, subject: self.subject, issuer: self.issuer, serial: self.serial, key }
    }
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) der: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) key: Key,
}

impl AsRef<[u8]> for Issued {
    fn as_ref(&self) -> &[u8] {
        &self.der
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64ct::Encoding;
    let text = base64ct::Base64::encode_string(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A revocation list of this issuer.
pub(crate) fn crl(
    issuer: &Issued,
    signer: &Key,
    updates: (i64, i64),
    serials: &[&[u8]],
    extensions: &[Vec<u8>],
) -> Vec<u8> {
    let entries: Vec<Vec<u8>> = serials.iter().map(|serial| seq(&[&integer(serial), &time(updates.0)])).collect();
    let list =
        if entries.is_empty() { Vec::new() } else { seq(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>()) };
    let extensions = match extensions {
        [] => Vec::new(),
        list => tlv(0xa0, &[&seq(&list.iter().map(Vec::as_slice).collect::<Vec<_>>())]),
    };
    signer.sign(&seq(&[
        &integer(&[1]),
        &signer.algorithm(),
        &issuer.subject,
        &time(updates.0),
        &time(updates.1),
        &list,
        &extensions,
    ]))
}

/// The fields of a VOMS attribute certificate to be.
#[derive(Clone)]
pub(crate) struct Attributes {
    pub(crate) holder_issuer: Vec<u8>,
    pub(crate) holder_serial: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) validity: (i64, i64),
    pub(crate) uri: String,
    pub(crate) fqans: Vec<String>,
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl Attributes {
    /// Attributes of this holder, attested by this server, with the extensions that VOMS writes.
    pub(crate) fn new(holder: &Issued, server: &Issued, above: &[&Issued], fqans: &[&str]) -> Self {
        let chain: Vec<&[u8]> =
            std::iter::once(server).chain(above.iter().copied()).map(|one| one.der.as_slice()).collect();
        Self {
            holder_issuer: holder.issuer.clone(),
            holder_serial: holder.serial.clone(),
            issuer: server.subject.clone(),
            validity: (NOW - DAY / 2, NOW + DAY / 2),
            uri: "myvo://voms.example.org:15000".into(),
            fqans: fqans.iter().map(|fqan| (*fqan).to_owned()).collect(),
            extensions: vec![
                extension("1.3.6.1.4.1.8005.100.100.10", false, &seq(&[&seq(&chain)])),
                no_revocation(),
                authority_key_id(&server.key.sha1()),
            ],
        }
    }

    /// Replaces the extension at this position: 0 certificates, 1 noRevAvail, 2 authorityKeyIdentifier.
    pub(crate) fn replace(mut self, position: usize, with: Option<Vec<u8>>) -> Self {
        match with {
            Some(extension) => self.extensions[position] = extension,
            None => _ = self.extensions.remove(position),
        }
        self
    }

    pub(crate) fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.push(extension);
        self
    }

    pub(crate) fn signed_by(&self, server: &Key) -> Vec<u8> {
        let directory_name = |name: &[u8]| seq(&[&tlv(0xa4, &[name])]);
        let holder = seq(&[&tlv(0xa0, &[&directory_name(&self.holder_issuer), &integer(&self.holder_serial)])]);
        let issuer = tlv(0xa0, &[&directory_name(&self.issuer)]);
        let validity = seq(&[&time(self.validity.0), &time(self.validity.1)]);
        let fqans: Vec<Vec<u8>> = self.fqans.iter().map(|fqan| tlv(0x04, &[fqan.as_bytes()])).collect();
        let syntax = seq(&[
            &tlv(0xa0, &[&tlv(0x86, &[self.uri.as_bytes()])]),
            &seq(&fqans.iter().map(Vec::as_slice).collect::<Vec<_>>()),
        ]);
        let attribute = seq(&[&oid("1.3.6.1.4.1.8005.100.100.4"), &tlv(0x31, &[&syntax])]);
        let extensions = seq(&self.extensions.iter().map(Vec::as_slice).collect::<Vec<_>>());
        server.sign(&seq(&[
            &integer(&[1]),
            &holder,
            &issuer,
            &server.algorithm(),
            &integer(&[0x2a]),
            &validity,
            &seq(&[&attribute]),
            &extensions,
        ]))
    }
}

pub(crate) fn no_revocation() -> Vec<u8> {
    extension("2.5.29.56", false, &[0x05, 0x00])
}

pub(crate) fn authority_key_id(key_id: &[u8]) -> Vec<u8> {
    extension("2.5.29.35", false, &seq(&[&tlv(0x80, &[key_id])]))
}

/// Targets as VOMS writes them.
pub(crate) fn targets(hosts: &[&str]) -> Vec<u8> {
    let one = |host: &&str| seq(&[&tlv(0xa0, &[&tlv(0x86, &[host.as_bytes()])])]);
    let list: Vec<Vec<u8>> = hosts.iter().map(one).collect();
    extension("2.5.29.55", true, &seq(&[&seq(&list.iter().map(Vec::as_slice).collect::<Vec<_>>())]))
}

/// The extension of a proxy that carries these attribute certificates.
pub(crate) fn voms_extension(certificates: &[&[u8]]) -> Vec<u8> {
    extension("1.3.6.1.4.1.8005.100.100.5", false, &seq(&[&seq(certificates)]))
}
