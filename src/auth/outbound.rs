//! The HTTP client for addresses that come from outside: issuers of tokens, and what their documents point to.
//!
//! It must not become a way into the network that the registry stands in (server-side request forgery): it follows no
//! redirect, asks no proxy, and speaks to public addresses only, unless the operator says otherwise for one issuer.
//! A newcomer will think that filtering names is enough: an address in the URL never passes a resolver, and a name may
//! point anywhere at the next look-up. So the URL is checked before the call and every address that a name gives
//! is checked when the connection is made.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Certificate, Client, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header::ACCEPT,
    redirect,
};
use url::{Host, Url};

/// What one issuer is allowed.
#[derive(Debug, Clone, Default)]
pub struct OutboundPolicy {
    /// Whether `http://` is allowed, for laboratories.
    pub allow_http: bool,
    /// Whether private, shared (RFC 6598), unique-local and loopback addresses are allowed. Link-local ones, where
    /// clouds keep their metadata services, never are.
    pub allow_private_addresses: bool,
    /// More certificates to trust, PEM.
    pub ca_file: Option<PathBuf>,
}

/// Bounds of one call.
#[derive(Debug, Clone, Copy)]
pub struct OutboundLimits {
    /// For the name's look-up, the connection and TLS.
    pub connect: Duration,
    /// For the whole call with its body.
    pub total: Duration,
    /// The largest body, in bytes.
    pub body_bytes: usize,
}

impl Default for OutboundLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(10),
            body_bytes: 1 << 20,
        }
    }
}

/// Why a call was not made, or its answer is of no use.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The URL is not one that may be called.
    #[error("{url}: {reason}")]
    Refused {
        /// The URL, without user information and query.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The call failed.
    #[error("{url} could not be fetched")]
    Failed {
        /// The URL, without user information and query.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer has another status than 2xx. A redirect is such an answer.
    #[error("{url} answered with status {status}")]
    Status {
        /// The URL, without user information and query.
        url: String,
        /// The status.
        status: u16,
    },
    /// The body is longer than the limit.
    #[error("the answer of {url} is longer than {limit_bytes} bytes")]
    TooLarge {
        /// The URL, without user information and query.
        url: String,
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// The file with certificates cannot be used.
    #[error("cannot use the certificates in {}: {reason}", path.display())]
    Certificates {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
}

/// The client, for one policy.
#[derive(Clone)]
pub struct Outbound {
    client: Client,
    policy: OutboundPolicy,
    limits: OutboundLimits,
}

impl Outbound {
    /// A client for this policy; it reads the file with certificates.
    ///
    /// # Errors
    /// `Certificates` if the file cannot be used.
    pub fn open(policy: OutboundPolicy, limits: OutboundLimits) -> Result<Self, OutboundError> {
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .https_only(!policy.allow_http)
            .dns_resolver(GuardedResolver {
                allow_private_addresses: policy.allow_private_addresses,
            })
            .connect_timeout(limits.connect)
            .timeout(limits.total)
            // Calls are rare, and an idle connection would belong to the worker thread that opened it.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("kontor/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &policy.ca_file {
            builder = builder.tls_certs_merge(certificates(path)?);
        }
        Ok(Self {
            client: builder.build().map_err(OutboundError::Client)?,
            policy,
            limits,
        })
    }

    /// Whether this URL may be called, as far as one can tell without looking up its name.
    ///
    /// # Errors
    /// `Refused`, with the reason.
    pub fn check(&self, url: &Url) -> Result<(), OutboundError> {
        let reason = match url.scheme() {
            "https" => None,
            "http" if self.policy.allow_http => None,
            "http" => Some("plain HTTP is not allowed for this issuer"),
            _ => Some("only https:// is allowed"),
        };
        let reason = reason.or_else(|| {
            let has_user = !url.username().is_empty() || url.password().is_some();
            let address = match url.host() {
                None => return Some("it names no host"),
                Some(Host::Domain(_)) => None,
                Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
                Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            };
            let allowed = self.policy.allow_private_addresses;
            if has_user {
                Some("user information in a URL is not allowed")
            } else if address.is_some_and(|address| !is_allowed(address, allowed)) {
                Some(PRIVATE)
            } else {
                None
            }
        });
        match reason {
            None => Ok(()),
            Some(reason) => Err(OutboundError::Refused {
                url: shown(url),
                reason,
            }),
        }
    }

    /// The body of `url`.
    ///
    /// # Errors
    /// All but `Certificates` and `Client`. None of them holds a part of the answer.
    pub async fn get(&self, url: &Url) -> Result<Bytes, OutboundError> {
        self.check(url)?;
        let failed = |source: reqwest::Error| OutboundError::Failed {
            url: shown(url),
            source: source.without_url(),
        };
        let request = self.client.get(url.clone());
        let request = request.header(ACCEPT, "application/json");
        let response = request.send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(OutboundError::Status {
                url: shown(url),
                status: response.status().as_u16(),
            });
        }
        let body = read_limited(response, self.limits.body_bytes).await;
        body.map_err(failed)?
            .ok_or_else(|| OutboundError::TooLarge {
                url: shown(url),
                limit_bytes: self.limits.body_bytes,
            })
    }
}

/// Without the client.
impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("policy", &self.policy)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The whole body, or `None` if it is longer than `limit_bytes`. What a length header says is not believed.
///
/// # Errors
/// Those of the connection.
pub async fn read_limited(
    mut response: Response,
    limit_bytes: usize,
) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > limit_bytes {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body.freeze()))
}

const PRIVATE: &str = "its address is not a public one, see allow_private_addresses";

/// For logs: a query may hold what nobody should read there.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, OutboundError> {
    let fault = |reason: String| OutboundError::Certificates {
        path: path.to_owned(),
        reason,
    };
    let pem = fs::read(path).map_err(|error| fault(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| fault(error.to_string()))?;
    if found.is_empty() {
        return Err(fault("there is no certificate in it".to_owned()));
    }
    Ok(found)
}

/// Looks names up with the system and keeps the addresses that may be called.
struct GuardedResolver {
    allow_private_addresses: bool,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allow_private_addresses;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let kept: Vec<_> = found.filter(|at| is_allowed(at.ip(), allowed)).collect();
            if kept.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, PRIVATE).into());
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The whole internet.
    Public,
    /// A machine or a network: private (RFC 1918), shared (RFC 6598), unique-local (RFC 4193), loopback.
    Private,
    /// No service at all, a link, or another address in disguise.
    Never,
}

/// How far `address` reaches, by IANA's special-purpose registries (RFC 6890).
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn is_allowed(address: IpAddr, allow_private_addresses: bool) -> bool {
    match reach(address) {
        Reach::Public => true,
        Reach::Private => allow_private_addresses,
        Reach::Never => false,
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [10, ..] | [127, ..] | [192, 168, ..] => Reach::Private,
        [172, 16..=31, ..] | [100, 64..=127, ..] => Reach::Private,
        // "This network", link-local, protocol assignments, documentation, 6to4 relays, benchmarks.
        [0, ..] | [169, 254, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] => Reach::Never,
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => Reach::Never,
        // Multicast, reserved, broadcast.
        [224..=255, ..] => Reach::Never,
        _ => Reach::Public,
    }
}

/// Only global unicast (2000::/3) can be public. So an IPv4 address in `::/96`, `::ffff:0:0/96` or `64:ff9b::/96`
/// (NAT64) is refused whatever it is, as is one in 6to4 or Teredo.
fn reach_v6(address: Ipv6Addr) -> Reach {
    let [first, second, ..] = address.segments();
    if address.is_loopback() || first & 0xfe00 == 0xfc00 {
        return Reach::Private;
    }
    if first & 0xe000 != 0x2000 {
        return Reach::Never;
    }
    match (first, second) {
        // Protocol assignments (Teredo, ORCHID ...), documentation, 6to4, documentation.
        (0x2001, 0..=0x01ff) | (0x2001, 0x0db8) | (0x2002, _) | (0x3fff, 0..=0x0fff) => {
            Reach::Never
        }
        _ => Reach::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for (expected, addresses) in [
            (
                Reach::Public,
                "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.0.1.1 192.167.0.1 \
                 198.17.0.1 198.20.0.1 223.255.255.255 2001:4860:4860::8888 2606:4700::1111 2a00::1 2001:200::1",
            ),
            (
                Reach::Private,
                "10.0.0.1 10.255.255.255 127.0.0.1 127.8.9.1 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1 \
                 100.127.255.255 ::1 fc00::1 fd12:3456::1",
            ),
            (
                Reach::Never,
                "0.0.0.0 0.1.2.3 169.254.169.254 192.0.0.1 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 \
                 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: fe80::1 febf::1 fec0::1 \
                 ff02::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::10.0.0.1 64:ff9b::10.0.0.1 64:ff9b::8.8.8.8 \
                 64:ff9b:1::1 100::1 2001::1 2001:10::1 2001:20::1 2001:db8::1 2002:a00:1::1 2002:7f00:1::1 \
                 3fff::1 4000::1 5f00::1",
            ),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    fn outbound(allow_http: bool, allow_private_addresses: bool) -> Outbound {
        let policy = OutboundPolicy {
            allow_http,
            allow_private_addresses,
            ca_file: None,
        };
        Outbound::open(policy, OutboundLimits::default()).unwrap()
    }

    #[test]
    fn a_url_must_be_of_the_policy() {
        let (strict, lax) = (outbound(false, false), outbound(true, true));
        for (url, by_strict, by_lax) in [
            ("https://issuer.example/x", true, true),
            ("http://issuer.example/x", false, true),
            ("ftp://issuer.example/x", false, false),
            ("file:///etc/passwd", false, false),
            ("https://user@issuer.example/", false, false),
            ("https://:word@issuer.example/", false, false),
            ("https://8.8.8.8/", true, true),
            ("https://10.0.0.1/", false, true),
            // The same address, as browsers and curl read it.
            ("https://0x7f.1/", false, true),
            ("https://2130706433/", false, true),
            ("https://[::1]/", false, true),
            ("https://169.254.169.254/latest/meta-data", false, false),
            ("https://[::ffff:10.0.0.1]/", false, false),
            ("https://0.0.0.0/", false, false),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!(strict.check(&parsed).is_ok(), by_strict, "{url}");
            assert_eq!(lax.check(&parsed).is_ok(), by_lax, "{url}");
        }
    }

    #[tokio::test]
    async fn a_private_address_is_refused_written_out_and_by_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let only_public = outbound(true, false);
        let literal = Url::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
        let refused = only_public.get(&literal).await;
        assert!(matches!(refused, Err(OutboundError::Refused { .. })));
        let name = Url::parse(&format!("http://localhost:{port}/")).unwrap();
        let Err(OutboundError::Failed { source, .. }) = only_public.get(&name).await else {
            panic!("a name with a private address was called");
        };
        assert!(format!("{source:?}").contains(PRIVATE), "{source:?}");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "somebody connected");
    }

    #[test]
    fn a_file_without_certificates_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/does/not/exist")] {
            let policy = OutboundPolicy {
                ca_file: Some(path.to_owned()),
                ..OutboundPolicy::default()
            };
            let opened = Outbound::open(policy, OutboundLimits::default());
            assert!(matches!(opened, Err(OutboundError::Certificates { .. })));
        }
    }

    /// A TLS server for `localhost`; only `testdata/ca.pem` vouches for it. Both are valid for 100 years,
    /// made with openssl; the authority's key was thrown away.
    fn tls_server() -> u16 {
        use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth/testdata");
        let chain = CertificateDer::pem_file_iter(folder.join("localhost.pem")).unwrap();
        let chain = chain.collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("localhost.key")).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = std::sync::Arc::new(config);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            use io::{Read as _, Write as _};
            for connection in listener.incoming() {
                let session = rustls::ServerConnection::new(std::sync::Arc::clone(&config));
                let mut stream = rustls::StreamOwned::new(session.unwrap(), connection.unwrap());
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
                if stream.read(&mut [0; 4096]).is_ok() {
                    drop(stream.write_all(answer));
                    drop(stream.flush());
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn certificates_are_checked_and_more_can_be_trusted() {
        let url = format!("https://localhost:{}/", tls_server());
        let url = Url::parse(&url).unwrap();
        let strict = outbound(false, true);
        let refused = strict.get(&url).await;
        assert!(matches!(refused, Err(OutboundError::Failed { .. })));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth/testdata");
        let policy = OutboundPolicy {
            allow_private_addresses: true,
            ca_file: Some(folder.join("ca.pem")),
            ..OutboundPolicy::default()
        };
        let trusting = Outbound::open(policy, OutboundLimits::default()).unwrap();
        assert_eq!(trusting.get(&url).await.unwrap(), "{}");
        // The name counts too.
        let by_address = url.as_str().replace("localhost", "127.0.0.1");
        let by_address = trusting.get(&Url::parse(&by_address).unwrap()).await;
        assert!(matches!(by_address, Err(OutboundError::Failed { .. })));
    }
}
