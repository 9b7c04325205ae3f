//! `healthcheck`: a short-lived process that asks a running one of the same settings whether it lives, for images
//! that have no shell.
//!
//! Guarantee: exit code 0 only for a 200 within [`ANSWER_TIMEOUT`]; else 1 and the reason on standard error.
//! Not for probes of an orchestrator that can ask the admin port itself.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::config::ConfigErrors;
use crate::run::{Service, say};

/// Longest wait for a connection, and for the answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// The arguments of `healthcheck`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HealthcheckArgs {
    /// TOML file with the settings of the process that is asked
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where that process has written its addresses; needed if its admin port is 0
    #[arg(long, value_name = "FILE")]
    pub ports_file: Option<PathBuf>,
    /// Ask whether it is ready for work, too, not only whether it lives
    #[arg(long)]
    pub ready: bool,
}

/// Why it is not well.
#[derive(Debug, thiserror::Error)]
enum Unwell {
    #[error(transparent)]
    Settings(#[from] ConfigErrors),
    #[error("admin.listen is port 0: name the ports file")]
    NoPort,
    #[error("read the admin address in {}", .0.display())]
    PortsFile(PathBuf),
    #[error("find the address {0}")]
    Address(String),
    #[error("ask {addr}")]
    Ask {
        addr: SocketAddr,
        source: std::io::Error,
    },
    #[error("set TLS up")]
    Tls(#[source] rustls::Error),
    #[error("{addr} answers: {answer}")]
    Answer { addr: SocketAddr, answer: String },
}

/// Asks the process that runs with these settings.
pub(crate) fn healthcheck<S>(service: Service<S>, args: HealthcheckArgs) -> ExitCode {
    match asked(service, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(unwell) => {
            say(std::io::stderr(), &crate::error_chain(&unwell));
            ExitCode::FAILURE
        }
    }
}

fn asked<S>(service: Service<S>, args: HealthcheckArgs) -> Result<(), Unwell> {
    let process = service.loaded(args.config)?.process()?;
    let listen = &process.admin.listen;
    let file = args
        .ports_file
        .or(process.runtime.ports_file.map(PathBuf::from));
    let addr = address(listen, file.as_deref())?;
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let failed = |source| Unwell::Ask { addr, source };
    let stream = TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT).map_err(failed)?;
    stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .map_err(failed)?;
    let answer = if process.admin.tls.cert_file.is_empty() {
        ask(stream, path)
    } else {
        let talk = ClientConnection::new(client_config()?, ServerName::from(addr.ip()));
        ask(StreamOwned::new(talk.map_err(Unwell::Tls)?, stream), path)
    };
    let answer = answer.map_err(failed)?;
    if answer.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    let answer = body.unwrap_or(&answer).trim().to_owned();
    Err(Unwell::Answer { addr, answer })
}

/// The admin address as this machine reaches it.
fn address(listen: &str, ports_file: Option<&Path>) -> Result<SocketAddr, Unwell> {
    let unknown = || Unwell::Address(listen.to_owned());
    let mut addr = listen.to_socket_addrs().map_err(|_| unknown())?;
    let mut addr = addr.next().ok_or_else(unknown)?;
    if addr.port() == 0 {
        let file = ports_file.ok_or(Unwell::NoPort)?;
        let known = std::fs::read(file).ok();
        let known = known.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
        let known = known.and_then(|ports| ports.get("admin")?.as_str()?.parse().ok());
        addr = known.ok_or_else(|| Unwell::PortsFile(file.to_path_buf()))?;
    }
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    Ok(addr)
}

fn ask(mut stream: impl Read + Write, path: &str) -> std::io::Result<String> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut limited = stream.take(ANSWER_BYTES_MAX);
    // A TLS server may close without a goodbye; what was said before counts.
    match limited.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        Ok(_) | Err(_) => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

fn client_config() -> Result<Arc<ClientConfig>, Unwell> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Unwell::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes any certificate: the question is whether somebody answers on our own port, whose certificate names other
/// hosts, and nothing secret is said.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_address_is_found_from_this_machine() {
        let of = |listen: &str, file: Option<&Path>| {
            let found = address(listen, file);
            found
                .map(|addr| addr.to_string())
                .map_err(|unwell| unwell.to_string())
        };
        assert_eq!(of("0.0.0.0:9090", None).unwrap(), "127.0.0.1:9090");
        assert_eq!(of("[::]:9090", None).unwrap(), "[::1]:9090");
        assert_eq!(of("10.0.0.7:9090", None).unwrap(), "10.0.0.7:9090");
        assert!(of("127.0.0.1:0", None).unwrap_err().contains("ports file"));
        assert!(of("nonsense", None).unwrap_err().contains("nonsense"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ports.json");
        assert!(
            of("127.0.0.1:0", Some(&file))
                .unwrap_err()
                .contains("ports.json")
        );
        std::fs::write(
            &file,
            r#"{"admin": "0.0.0.0:4711", "http": "127.0.0.1:80"}"#,
        )
        .unwrap();
        assert_eq!(of("127.0.0.1:0", Some(&file)).unwrap(), "127.0.0.1:4711");
    }
}
