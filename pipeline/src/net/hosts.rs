//! Which hosts may be asked, and at which addresses.
//!
//! The mirror's machine usually sits in a network that the outside may not reach. An index (`dl`), a redirect or
//! a name server could try to make it ask there on somebody's behalf, so:
//! - only `http` and `https`, and never from `https` down to `http`;
//! - only hosts that the operator named, or that the registry named for its downloads;
//! - a host that only the registry named must have a public address, whether it is written as one or resolved;
//!   what is looked up is what is connected to, so a second look-up cannot differ.
//!
//! Behind a proxy the proxy looks names up; then only names and written addresses can be checked here.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect;

/// How many redirects are followed for one request.
pub const MAX_HOPS: usize = 5;

/// A request that the rules about hosts forbid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Not `http` or `https`.
    #[error("only http and https are used, not {0:?}")]
    Scheme(String),
    /// Nothing to connect to.
    #[error("{0} names no host")]
    NoHost(String),
    /// A host that nobody named.
    #[error("host {0} is neither the registry's nor permitted by `[network] allow-hosts`")]
    Host(String),
    /// An address in the operator's own network.
    #[error("host {host} is at {address}, which is not a public address, and not permitted by `[network] allow-hosts`")]
    Address {
        /// The host as it was named.
        host: String,
        /// Where it is.
        address: IpAddr,
    },
    /// A redirect from `https` to `http`.
    #[error("a redirect leads from https down to http at host {0}")]
    Downgrade(String),
    /// The registry names a host without encryption.
    #[error("host {0} is named for downloads without encryption (http), and not permitted by `[network] allow-hosts`")]
    Plain(String),
    /// Round and round.
    #[error("more than {MAX_HOPS} redirects")]
    TooManyHops,
}

/// The hosts that may be asked. Shared by all clients of a [`Network`](super::Network).
#[derive(Debug, Default)]
pub struct Hosts {
    /// Named by the operator: may be private.
    operator: HashSet<Box<str>>,
    /// Named by the registry for its downloads: must be public.
    registry: RwLock<HashSet<Box<str>>>,
    /// The operator's proxies: may be private, but nothing may redirect to them.
    proxies: RwLock<HashSet<Box<str>>>,
}

impl Hosts {
    /// The hosts that the operator named.
    pub fn new(operator: impl IntoIterator<Item = String>) -> Self {
        Hosts { operator: operator.into_iter().map(|host| plain_name(&host)).collect(), ..Hosts::default() }
    }

    /// Permits the host of a download URL that the registry named.
    pub fn permit_registry(&self, url: &Url) -> Result<(), Forbidden> {
        let host = host_of(url)?;
        if !self.is_operators(host) {
            if url.scheme() == "http" {
                return Err(Forbidden::Plain(host.to_owned()));
            }
            check_written(url, host)?;
            self.registry.write().unwrap_or_else(PoisonError::into_inner).insert(plain_name(host));
        }
        Ok(())
    }

    /// Permits connections to a proxy.
    pub(super) fn permit_proxy(&self, host: &str) {
        self.proxies.write().unwrap_or_else(PoisonError::into_inner).insert(plain_name(host));
    }

    /// Whether this URL may be asked.
    pub fn check(&self, url: &Url) -> Result<(), Forbidden> {
        let host = host_of(url)?;
        if self.is_operators(host) {
            return Ok(());
        }
        if !self.registry.read().unwrap_or_else(PoisonError::into_inner).contains(&*plain_name(host)) {
            return Err(Forbidden::Host(host.to_owned()));
        }
        check_written(url, host)
    }

    /// Whether a redirect may be followed to `next`, after these URLs.
    fn check_hop(&self, previous: &[Url], next: &Url) -> Result<(), Forbidden> {
        if previous.len() > MAX_HOPS {
            return Err(Forbidden::TooManyHops);
        }
        self.check(next)?;
        match previous.last() {
            Some(last) if last.scheme() == "https" && next.scheme() == "http" => {
                Err(Forbidden::Downgrade(host_of(next)?.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Which of these addresses of a host may be connected to; none is an error.
    fn admit(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Forbidden> {
        if self.is_operators(host) || self.is_proxy(host) {
            return Ok(found);
        }
        let (public, private): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| is_public(found.ip()));
        match private.first() {
            Some(address) if public.is_empty() => {
                Err(Forbidden::Address { host: host.to_owned(), address: address.ip() })
            }
            _ => Ok(public),
        }
    }

    fn is_operators(&self, host: &str) -> bool {
        self.operator.contains(&*plain_name(host))
    }

    fn is_proxy(&self, host: &str) -> bool {
        self.proxies.read().unwrap_or_else(PoisonError::into_inner).contains(&*plain_name(host))
    }
}

/// Follows redirects within the rules.
pub(super) fn redirect_policy(hosts: Arc<Hosts>) -> redirect::Policy {
    redirect::Policy::custom(move |hop| match hosts.check_hop(hop.previous(), hop.url()) {
        Ok(()) => hop.follow(),
        Err(forbidden) => hop.error(forbidden),
    })
}

/// Looks names up with the system's resolver and keeps what may be connected to.
#[derive(Clone)]
pub(super) struct Resolver(pub(super) Arc<Hosts>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let hosts = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let admitted = hosts.admit(name.as_str(), found)?;
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

/// A host in the form in which hosts are compared: lower case, no brackets, no final dot.
fn plain_name(host: &str) -> Box<str> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase().into()
}

fn host_of(url: &Url) -> Result<&str, Forbidden> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Forbidden::Scheme(url.scheme().to_owned()));
    }
    url.host_str().ok_or_else(|| Forbidden::NoHost(url.to_string()))
}

/// Checks a host that is written as an address; a name is checked when it is looked up.
fn check_written(url: &Url, host: &str) -> Result<(), Forbidden> {
    let Ok(address) = plain_name(url.host_str().unwrap_or(host)).parse::<IpAddr>() else { return Ok(()) };
    if is_public(address) { Ok(()) } else { Err(Forbidden::Address { host: host.to_owned(), address }) }
}

/// Whether an address can belong to a server on the public network. Addresses reserved for documentation pass:
/// nothing private is ever there.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => embedded_v4(address).map_or_else(|| is_public_v6(address), is_public_v4),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let shared_by_carriers = first == 100 && (second & 0xc0) == 64;
    let special = first == 0 || first >= 224 || (first, second, third) == (192, 0, 0);
    !(special || shared_by_carriers || address.is_loopback() || address.is_private() || address.is_link_local())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    let unique_local = (first & 0xfe00) == 0xfc00;
    let link_or_site_local = (first & 0xff80) == 0xfe80;
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || unique_local || link_or_site_local)
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, translated (NAT64) or tunnelled (6to4).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(join(high, low))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn hosts() -> Hosts {
        let hosts = Hosts::new(["index.example.org".to_owned(), "10.0.0.5".to_owned(), "[fd00::5]".to_owned()]);
        hosts.permit_registry(&url("https://static.example.net/x")).unwrap();
        hosts
    }

    #[test]
    fn only_hosts_that_somebody_named_are_asked() {
        let hosts = hosts();
        for good in [
            "https://index.example.org/a",
            "http://INDEX.example.org./a",
            "https://static.example.net/b",
            "http://10.0.0.5:8080/",
            "https://[fd00::5]/",
        ] {
            assert_eq!(hosts.check(&url(good)), Ok(()), "{good}");
        }
        for bad in ["https://evil.example.com/", "https://10.0.0.6/", "https://index.example.org.evil.example/"] {
            let error = hosts.check(&url(bad)).unwrap_err();
            assert!(matches!(error, Forbidden::Host(_)), "{bad}");
            assert!(error.to_string().contains("`[network] allow-hosts`"), "{error}");
        }
        assert_eq!(hosts.check(&url("file:///etc/passwd")), Err(Forbidden::Scheme("file".to_owned())));
    }

    #[test]
    fn a_registry_cannot_name_an_address_in_the_operators_network() {
        let hosts = hosts();
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "2130706433",
            "0x7f.1",
            "[::1]",
            "[::]",
            "[fd12::1]",
            "[fe80::1]",
            "[ff02::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
        ] {
            let error = hosts.permit_registry(&url(&format!("https://{private}/dl"))).unwrap_err();
            assert!(matches!(error, Forbidden::Address { .. }), "{private}: {error}");
        }
        for public in ["203.0.113.9", "198.51.100.1", "9.9.9.9", "[2001:db8::1]", "[2606:4700::1]"] {
            assert_eq!(hosts.permit_registry(&url(&format!("https://{public}/dl"))), Ok(()), "{public}");
        }
        assert_eq!(hosts.permit_registry(&url("http://10.0.0.5/dl")), Ok(()), "the operator named it");
    }

    #[test]
    fn a_registry_cannot_send_downloads_over_plain_http_to_a_host_it_alone_named() {
        let error = hosts().permit_registry(&url("http://static.example.net/dl")).unwrap_err();
        assert_eq!(error, Forbidden::Plain("static.example.net".to_owned()));
    }

    #[test]
    fn a_name_that_resolves_into_the_operators_network_is_not_connected_to() {
        let hosts = hosts();
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let error = hosts.admit("static.example.net", vec![at("127.0.0.1"), at("::1")]).unwrap_err();
        assert!(error.to_string().contains("static.example.net is at 127.0.0.1"), "{error}");
        let mixed = hosts.admit("static.example.net", vec![at("10.0.0.1"), at("203.0.113.9")]);
        assert_eq!(mixed, Ok(vec![at("203.0.113.9")]));
        assert!(hosts.admit("index.example.org", vec![at("192.168.0.2")]).is_ok(), "the operator named it");
        hosts.permit_proxy("proxy.example.org");
        assert!(hosts.admit("proxy.example.org", vec![at("192.168.0.3")]).is_ok());
        assert!(hosts.check(&url("http://proxy.example.org/")).is_err(), "no redirect leads to a proxy");
    }

    #[test]
    fn redirects_go_neither_down_nor_round_nor_to_strangers() {
        let hosts = hosts();
        let from = [url("https://index.example.org/")];
        assert_eq!(hosts.check_hop(&from, &url("https://static.example.net/")), Ok(()));
        assert!(matches!(hosts.check_hop(&from, &url("http://static.example.net/")), Err(Forbidden::Downgrade(_))));
        assert!(matches!(hosts.check_hop(&from, &url("https://127.0.0.1/")), Err(Forbidden::Host(_))));
        assert!(matches!(hosts.check_hop(&from, &url("file:///etc/passwd")), Err(Forbidden::Scheme(_))));
        let five = vec![url("https://index.example.org/"); MAX_HOPS];
        assert_eq!(hosts.check_hop(&five, &from[0]), Ok(()));
        let six = vec![url("https://index.example.org/"); MAX_HOPS + 1];
        assert_eq!(hosts.check_hop(&six, &from[0]), Err(Forbidden::TooManyHops));
    }
}
