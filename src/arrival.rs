//! A request that arrives: whether its headers about itself are true, and which service it is for.

use core::cell::RefCell;

use super::plugin::Plugin;
use super::service::Service;
use crate::hostcalls::{self, Map};
use config::Mode;
use policy::names;
use policy::origin;
use policy::target::{self, Named};

/// `role: edge`: removes the filter's headers from requests that do not come from the mesh.
#[inline(never)]
pub fn guard(plugin: &Plugin, marker: bool) {
    let to = hostcalls::header(Map::Request, names::TO).is_some();
    if (marker || to) && !believed(plugin) {
        plugin.forged();
        if plugin.mode == Mode::Enforce {
            remove(marker, to);
        }
    }
}

/// Removes those of the filter's headers that are present and must not be.
#[inline(never)]
pub fn remove(marker: bool, to: bool) {
    if marker {
        hostcalls::remove_header(Map::Request, names::MARKER);
    }
    if to {
        hostcalls::remove_header(Map::Request, names::TO);
    }
}

/// Whether the sender of the request may be believed.
#[inline(never)]
pub fn believed(plugin: &Plugin) -> bool {
    let san = |direct, tunnel| {
        let direct = hostcalls::property(direct).filter(|san| !san.is_empty());
        direct
            .or_else(|| hostcalls::property(tunnel))
            .unwrap_or_default()
    };
    let peer = san(hostcalls::PEER_SAN, hostcalls::TUNNEL_PEER_SAN);
    let own = san(hostcalls::OWN_SAN, hostcalls::TUNNEL_OWN_SAN);
    origin::believed(&plugin.trust_domains, &peer, &own)
}

/// The last cluster whose name alone said that its requests lead to the home of a service, and the index of that service. The
/// next request is often for the same.
#[derive(Default)]
pub struct Last(RefCell<(String, usize)>);

/// The service of a request, and whether the name of its cluster alone says that it leads to the home of that service.
pub fn find<'a>(plugin: &'a Plugin, cluster: &str) -> (Option<&'a Service>, bool) {
    if let Ok(last) = plugin.last.0.try_borrow()
        && target::same(&last.0, cluster)
        && !cluster.is_empty()
    {
        return (plugin.service(last.1), true);
    }
    find_anew(plugin, cluster)
}

#[inline(never)]
fn find_anew<'a>(plugin: &'a Plugin, cluster: &str) -> (Option<&'a Service>, bool) {
    let (service, by_cluster) = match target::named(cluster) {
        Named::Host(host) => (known(plugin, host), true),
        // The subset of a peer is not home, whatever has led the request there. Of another one the name says that it is home,
        // unless the header was not looked for, which may have led it there.
        Named::Subset(host, subset) => (
            known(plugin, host).filter(|service| !service.has_peer_in(subset)),
            plugin.looks_for_to,
        ),
        Named::ByAuthority => match plugin.by_host(cluster) {
            Some(service) => (Some(service), true),
            None => (by_authority(plugin), false),
        },
        Named::Nothing => (None, false),
    };
    let leads_home = by_cluster && service.is_some();
    if let (Some(service), true) = (service, leads_home)
        && let Ok(mut last) = plugin.last.0.try_borrow_mut()
    {
        last.0.clear();
        last.0.push_str(cluster);
        last.1 = service.index;
    }
    (service, leads_home)
}

/// The service of a request that `x-peer-spillover-to` has led to this cluster. Envoy tells no other cluster before it sends
/// the request.
#[inline(never)]
pub fn find_led_away<'a>(plugin: &'a Plugin, cluster: &str) -> Option<&'a Service> {
    let host = match target::named(cluster) {
        Named::Host(host) | Named::Subset(host, _) => host,
        Named::ByAuthority | Named::Nothing => cluster,
    };
    plugin.by_peer_host(host).or_else(|| by_authority(plugin))
}

#[inline(never)]
fn by_authority(plugin: &Plugin) -> Option<&Service> {
    let authority = hostcalls::header(Map::Request, ":authority")?;
    known(plugin, target::host_of(&authority))
}

/// The service with this host. If there is none, the host is remembered.
fn known<'a>(plugin: &'a Plugin, host: &str) -> Option<&'a Service> {
    let service = plugin.by_host(host);
    if service.is_none() {
        plugin.strangers.note(host);
    }
    service
}
