//! Whether a server's certificate is to be trusted, by the rules of OVS: signed by our CA, whatever its name.
//!
//! rustls refuses two kinds of certificate that OpenSSL, and so OVS, accepts, and that clusters set up long ago
//! still have: X.509 version 1, as `ovs-pki` made before OVS 2.11 and `openssl x509 -req` still does without an
//! extensions file; and a self-signed certificate that is a CA's and the server's own at once. Neither has
//! anything to constrain what it may be used for, so what is left to check is short.

use std::time::Duration;

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme,
};

#[derive(Debug)]
pub(super) struct ChainVerifier {
    ca: Vec<CertificateDer<'static>>,
    /// The same, as rustls wants them.
    anchors: RootCertStore,
    verify_host: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ChainVerifier {
    pub(super) fn new(
        ca: Vec<CertificateDer<'static>>,
        verify_host: bool,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, Error> {
        let mut anchors = RootCertStore::empty();
        for certificate in &ca {
            anchors.add(certificate.clone())?;
        }
        Ok(Self { ca, anchors, verify_host, algorithms })
    }

    fn verify_chain(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        match X509::read(certificate) {
            Some(x509) if self.ca.iter().any(|ca| ca == certificate) => x509.verify_dates(now),
            Some(x509) if x509.is_version_1 => self.verify_version_1(&x509, now),
            _ => {
                let parsed = ParsedCertificate::try_from(certificate)?;
                let algorithms = self.algorithms.all;
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    &self.anchors,
                    intermediates,
                    now,
                    algorithms,
                )
            }
        }
    }

    /// Signed by one of the CA's certificates itself: who has so old a one has no intermediate authorities.
    fn verify_version_1(&self, x509: &X509<'_>, now: UnixTime) -> Result<(), Error> {
        x509.verify_dates(now)?;
        let mut issuers = self.anchors.roots.iter().filter(|anchor| anchor.subject.as_ref() == x509.issuer);
        let signed = issuers.any(|anchor| {
            let key = PublicKey::read(&anchor.subject_public_key_info);
            key.is_some_and(|key| {
                let algorithms = self.algorithms.all.iter().copied();
                let of_signature = |algorithm: &&dyn SignatureVerificationAlgorithm| {
                    algorithm.signature_alg_id().as_ref() == x509.signature_algorithm
                };
                key.verifies(algorithms.filter(of_signature), x509.signed, x509.signature)
            })
        });
        if signed { Ok(()) } else { Err(CertificateError::UnknownIssuer.into()) }
    }
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_chain(end_entity, intermediates, now)?;
        if self.verify_host {
            // Version 1 has no alternative names.
            let no_names = |_| Error::from(CertificateError::NotValidForName);
            verify_server_name(&ParsedCertificate::try_from(end_entity).map_err(no_names)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match X509::read(certificate) {
            Some(x509) if x509.is_version_1 => self.verify_handshake(message, &x509, signed, usize::MAX),
            _ => verify_tls12_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match X509::read(certificate) {
            // TLS 1.3 knows which curve goes with a scheme: the first.
            Some(x509) if x509.is_version_1 => self.verify_handshake(message, &x509, signed, 1),
            _ => verify_tls13_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ChainVerifier {
    fn verify_handshake(
        &self,
        message: &[u8],
        x509: &X509<'_>,
        signed: &DigitallySignedStruct,
        most: usize,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (_, algorithms) = (self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme))
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        if x509.key.verifies(algorithms.iter().copied().take(most), message, signed.signature()) {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }
}

/// The `SubjectPublicKeyInfo` of a certificate, to compare with that of a private key.
pub(super) fn public_key<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    Some(X509::read(certificate)?.key.whole)
}

/// What is looked at in a certificate (RFC 5280 section 4.1). Names and algorithms are the contents of their
/// DER sequences, as rustls has them.
struct X509<'a> {
    is_version_1: bool,
    issuer: &'a [u8],
    /// Seconds since 1970, of the first and the last moment.
    validity: (Duration, Duration),
    key: PublicKey<'a>,
    /// The part that is signed.
    signed: &'a [u8],
    signature_algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> X509<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        Self::decode(der).ok()?
    }

    fn decode(der: &'a [u8]) -> der::Result<Option<Self>> {
        let certificate = sequence(der)?;
        let mut reader = SliceReader::new(certificate)?;
        let signed = reader.tlv_bytes()?;
        let signature_algorithm = AnyRef::decode(&mut reader)?.value();
        let Some(signature) = BitStringRef::decode(&mut reader)?.as_bytes() else { return Ok(None) };
        let mut to_be_signed = SliceReader::new(sequence(signed)?)?;
        // The version, which version 1 leaves out, or the serial number.
        let first = AnyRef::decode(&mut to_be_signed)?;
        let is_version_1 = first.tag() == Tag::Integer;
        if !is_version_1 {
            AnyRef::decode(&mut to_be_signed)?;
        }
        if AnyRef::decode(&mut to_be_signed)?.value() != signature_algorithm {
            return Ok(None);
        }
        let issuer = AnyRef::decode(&mut to_be_signed)?.value();
        let mut validity = SliceReader::new(AnyRef::decode(&mut to_be_signed)?.value())?;
        let validity = (time(&mut validity)?, time(&mut validity)?);
        let _subject = to_be_signed.tlv_bytes()?;
        let whole = to_be_signed.tlv_bytes()?;
        let Some(key) = PublicKey::read(sequence(whole)?) else { return Ok(None) };
        let key = PublicKey { whole, ..key };
        Ok(Some(Self { is_version_1, issuer, validity, key, signed, signature_algorithm, signature }))
    }

    fn verify_dates(&self, now: UnixTime) -> Result<(), Error> {
        let now = Duration::from_secs(now.as_secs());
        match self.validity {
            (from, _) if now < from => Err(CertificateError::NotValidYet.into()),
            (_, until) if now > until => Err(CertificateError::Expired.into()),
            _ => Ok(()),
        }
    }
}

/// A `SubjectPublicKeyInfo`.
struct PublicKey<'a> {
    /// With its outer header, where it was read with one.
    whole: &'a [u8],
    algorithm: &'a [u8],
    bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    fn read(contents: &'a [u8]) -> Option<Self> {
        let mut reader = SliceReader::new(contents).ok()?;
        let algorithm = AnyRef::decode(&mut reader).ok()?.value();
        let bits = BitStringRef::decode(&mut reader).ok()?.as_bytes()?;
        Some(Self { whole: contents, algorithm, bits })
    }

    fn verifies<'b>(
        &self,
        mut algorithms: impl Iterator<Item = &'b dyn SignatureVerificationAlgorithm>,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        algorithms.any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == self.algorithm
                && algorithm.verify_signature(self.bits, message, signature).is_ok()
        })
    }
}

fn sequence(der: &[u8]) -> der::Result<&[u8]> {
    let sequence = AnyRef::from_der(der)?;
    sequence.tag().assert_eq(Tag::Sequence)?;
    Ok(sequence.value())
}

/// `Time` of RFC 5280 section 4.1.2.5.
fn time<'a>(reader: &mut impl Reader<'a>) -> der::Result<Duration> {
    Ok(match reader.peek_tag()? {
        Tag::UtcTime => UtcTime::decode(reader)?.to_unix_duration(),
        _ => GeneralizedTime::decode(reader)?.to_unix_duration(),
    })
}
