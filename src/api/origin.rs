//! How the registry looks from where a request comes from: scheme, host, address of the client.

use std::net::IpAddr;

use actix_web::{HttpRequest, http::header};
use ipnet::IpNet;
use url::Url;

use crate::{auth::challenge::Challenge, oci::AccountName};

/// Where clients reach this registry, as configured.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// The one address of the registry; without it, what the request says.
    pub public_url: Option<Url>,
    /// `account.<base domain>` serves one account.
    pub base_domains: Vec<String>,
    /// Networks whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// How the registry looks from where a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    /// The client's address, behind trusted proxies.
    pub client: Option<IpAddr>,
    /// The account whose own domain was asked.
    pub remapped_to: Option<AccountName>,
}

impl Origin {
    /// Reads it off a request.
    pub fn of(request: &HttpRequest, hosts: &Hosts) -> Self {
        let peer = request.peer_addr().map(|address| address.ip());
        let proxy = peer.filter(|peer| hosts.trusts(*peer));
        // The last proxy is ours; what stands before its entry may come from anybody.
        let forwarded = |name: &str| -> Option<String> {
            proxy?;
            // A proxy may add a header of its own instead of adding to the one that came.
            let value = request.headers().get_all(name).last()?.to_str().ok()?;
            value
                .rsplit(',')
                .next()
                .map(|entry| entry.trim().to_owned())
        };
        let scheme = if request.app_config().secure() {
            "https"
        } else {
            "http"
        };
        let scheme = forwarded("x-forwarded-proto")
            .filter(|scheme| matches!(scheme.as_str(), "http" | "https"))
            .unwrap_or_else(|| scheme.to_owned());
        let host = forwarded("x-forwarded-host")
            .or_else(|| {
                Some(
                    request
                        .headers()
                        .get(header::HOST)?
                        .to_str()
                        .ok()?
                        .to_owned(),
                )
            })
            .or_else(|| request.uri().authority().map(ToString::to_string))
            .unwrap_or_else(|| request.app_config().local_addr().to_string())
            .to_ascii_lowercase();
        let client = proxy
            .and_then(|_| hosts.client_behind_proxies(request))
            .or(peer);
        let remapped_to = hosts.remapped_account(&host);
        Self {
            scheme,
            host,
            client,
            remapped_to,
        }
    }

    /// Where to get a token for this registry.
    pub fn challenge(&self, hosts: &Hosts) -> Challenge {
        match &hosts.public_url {
            Some(url) if self.remapped_to.is_none() => Challenge {
                realm: format!("{}token", url.as_str()),
                service: authority(url),
            },
            _ => Challenge {
                realm: format!("{}://{}/token", self.scheme, self.host),
                service: self.host.clone(),
            },
        }
    }
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl Hosts {
    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(&address))
    }

    /// The last address of `X-Forwarded-For` that is not one of our own proxies.
    fn client_behind_proxies(&self, request: &HttpRequest) -> Option<IpAddr> {
        let values = request.headers().get_all("x-forwarded-for");
        let values: Vec<&str> = values
            .map(|value| value.to_str().unwrap_or_default())
            .collect();
        let mut addresses = values
            .iter()
            .rev()
            .flat_map(|value| value.rsplit(','))
            .map_while(|entry| entry.trim().parse().ok());
        addresses.find(|address| !self.trusts(*address))
    }

    fn remapped_account(&self, host: &str) -> Option<AccountName> {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        self.base_domains.iter().find_map(|domain| {
            name.strip_suffix(domain.as_str())?
                .strip_suffix('.')?
                .parse()
                .ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn hosts() -> Hosts {
        Hosts {
            public_url: None,
            base_domains: vec!["registry.example".into()],
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        }
    }

    fn request(peer: &str) -> TestRequest {
        TestRequest::default()
            .peer_addr(format!("{peer}:1").parse().unwrap())
            .insert_header(("host", "inside:8080"))
            .insert_header(("x-forwarded-proto", "https"))
            .insert_header(("x-forwarded-host", "evil.example, demo.registry.example"))
            .insert_header(("x-forwarded-for", "6.6.6.6, 192.0.2.1, 10.1.1.1"))
    }

    #[test]
    fn forwarded_headers_count_only_from_trusted_proxies() {
        let behind = Origin::of(&request("10.0.0.1").to_http_request(), &hosts());
        assert_eq!(
            behind.challenge(&hosts()).realm,
            "https://demo.registry.example/token"
        );
        assert_eq!(behind.client, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(behind.remapped_to.unwrap().as_str(), "demo");
        let direct = Origin::of(&request("192.0.2.9").to_http_request(), &hosts());
        assert_eq!(direct.challenge(&hosts()).realm, "http://inside:8080/token");
        assert_eq!(direct.client, Some("192.0.2.9".parse().unwrap()));
        assert_eq!(direct.remapped_to, None);
    }

    #[test]
    fn what_a_proxy_adds_as_a_header_of_its_own_counts_and_not_what_the_client_sent() {
        let request = TestRequest::default()
            .peer_addr("10.0.0.1:1".parse().unwrap())
            .append_header(("x-forwarded-for", "6.6.6.6"))
            .append_header(("x-forwarded-for", "192.0.2.1, 10.1.1.1"))
            .append_header(("x-forwarded-host", "evil.example"))
            .append_header(("x-forwarded-host", "demo.registry.example"));
        let origin = Origin::of(&request.to_http_request(), &hosts());
        assert_eq!(origin.client, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(origin.remapped_to.unwrap().as_str(), "demo");
    }

    #[test]
    fn only_a_single_label_before_a_base_domain_is_an_account() {
        for (host, account) in [
            ("demo.registry.example:443", Some("demo")),
            ("registry.example", None),
            ("a.b.registry.example", None),
            ("demoregistry.example", None),
            (".registry.example", None),
        ] {
            let found = hosts().remapped_account(host);
            assert_eq!(found.as_ref().map(AccountName::as_str), account, "{host}");
        }
    }

    #[test]
    fn a_public_url_wins_over_what_the_request_says() {
        let hosts = Hosts {
            public_url: Some("https://r.example:444".parse().unwrap()),
            ..hosts()
        };
        let origin = Origin::of(&TestRequest::default().to_http_request(), &hosts);
        let challenge = origin.challenge(&hosts);
        assert_eq!(challenge.realm, "https://r.example:444/token");
        assert_eq!(challenge.service, "r.example:444");
    }
}
