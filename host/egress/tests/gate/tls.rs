//! TLS to the configured name only, HTTP/2 where the downstream speaks it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Response as HttpResponse;
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use sgen_egress::{CertificateDer, Limits, SendErrorKind};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::kit::*;

/// A downstream with a certificate for `downstream.example`.
struct TlsDownstream {
    address: SocketAddr,
    root: CertificateDer<'static>,
    seen: Arc<Mutex<Vec<Seen>>>,
    names: Arc<Mutex<Vec<Option<String>>>>,
}

impl TlsDownstream {
    async fn start(alpn: &[&[u8]]) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["downstream.example".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &authority).unwrap();
        let mut config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
                .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, names) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (record, sni) = (seen.clone(), names.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, record, sni) = (acceptor.clone(), record.clone(), sni.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    sni.lock().unwrap().push(stream.get_ref().1.server_name().map(str::to_owned));
                    serve(stream, Arc::new(|_: &Seen| HttpResponse::new(Full::from("ok"))), record).await;
                });
            }
        });
        Self { address, root: authority.der().clone(), seen, names }
    }

    /// An endpoint to `base`, whose connections all end here.
    fn endpoint(
        &self,
        base: &str,
        root: CertificateDer<'static>,
    ) -> (Arc<sgen_egress::Endpoint>, Arc<RecordingDialer>) {
        let dialer = RecordingDialer::to(self.address);
        let resolver = ScriptedResolver::new(&[&["93.184.216.34"]]);
        let gate = gate_with(&[], dialer.clone(), resolver, Limits::default(), vec![root]);
        let spec = open_spec(base, bearer());
        let grant = gate.grant(&instance("a"), vec![spec], credentials(&[("token", "the-secret")])).unwrap();
        (opened(&grant), dialer)
    }
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered() {
    for (alpn, version) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], http::Version::HTTP_2),
        (&[b"http/1.1"], http::Version::HTTP_11),
        (&[], http::Version::HTTP_11),
    ] {
        let downstream = TlsDownstream::start(alpn).await;
        let (endpoint, dialer) = downstream.endpoint("https://Downstream.Example./root", downstream.root.clone());
        for _ in 0..3 {
            assert_eq!(endpoint.send(post("/x", &[], "body")).await.unwrap().body, b"ok");
        }
        assert_eq!(dialer.dials(), 1);
        let seen = downstream.seen.lock().unwrap()[0].clone();
        assert_eq!(seen.version, version);
        assert_eq!((seen.method.as_str(), seen.body.as_slice()), ("POST", b"body".as_slice()));
        assert!(seen.uri.ends_with("/root/x"), "{}", seen.uri);
        assert_eq!(seen.header("authorization"), Some("Bearer the-secret"));
        let host = seen.header("host").map_or(seen.uri.clone(), str::to_owned);
        assert!(host.contains("downstream.example") && !host.contains("downstream.example."), "{host}");
        assert_eq!(*downstream.names.lock().unwrap(), [Some("downstream.example".to_owned())]);
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_or_an_unknown_root_is_refused() {
    let downstream = TlsDownstream::start(&[b"h2"]).await;
    let stranger = TlsDownstream::start(&[b"h2"]).await;
    for (base, root) in [
        ("https://other.example", downstream.root.clone()),
        ("https://93.184.216.34", downstream.root.clone()),
        ("https://downstream.example", stranger.root.clone()),
    ] {
        let (endpoint, _) = downstream.endpoint(base, root);
        let error = endpoint.send(get("/")).await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Connect, "{error}");
        assert!(error.message.contains("TLS"), "{error}");
    }
    assert!(downstream.seen.lock().unwrap().is_empty());
}
