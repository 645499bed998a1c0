//! The lines to play with that `--keep` prints: each that begins with two spaces is a command, to be copied as it is.

use envoy_test::world::{HOST, World};
use serde_json::Value;

use crate::errors::{self, Errors};
use crate::options::Options;
use crate::peers::{self, Peers};
use crate::run::{Experiment, plugin_config};

/// Long enough that requests which a shell starts one after another are at the service together.
const DELAY_MS: u32 = 1000;

/// For the two worlds of the surplus.
pub fn lines(options: &Options, done: &Experiment) -> String {
    let burst = options.limit + 2;
    // An answer and its status in one go: curl writes them one after another, and others in between.
    let at_once = |world: &World| {
        format!(
            "for i in $(seq {burst}); do echo \"$(curl -s -w ' %{{http_code}}' -H 'Host: {HOST}' -H 'x-delay-ms: {DELAY_MS}' {})\" & done; wait",
            world.url()
        )
    };
    format!(
        "
Both are still running, until Ctrl-C. One request, which home has room for, and what was decided (x-peer-spillover):
  curl -si -H 'Host: {HOST}' {url}
{burst} at once against a limit of {limit}; the \"name\" in each answer is the cluster that gave it:
  {with}
The same at the set-up of 2020, without the filter:
  {without}
{counted}",
        url = done.filter.url(),
        limit = options.limit,
        with = at_once(&done.filter),
        without = at_once(&done.origin),
        counted = counted(&done.filter, &plugin_config(options)),
    )
}

/// For a home that can be made to fail.
pub fn errors_lines(options: &Options, done: &Errors) -> String {
    format!(
        "
It is still running, until Ctrl-C. One request, and what was decided (x-peer-spillover):
  curl -si -H 'Host: {HOST}' {url}
Five errors of home, and then its requests go to the peer until a probe is answered:
  for i in $(seq 5); do curl -s -w ' %{{http_code}}\\n' -H 'Host: {HOST}' -H 'x-status: 500' {url}; done
  for i in $(seq 20); do curl -si -H 'Host: {HOST}' {url} | grep x-peer-spillover: ; sleep 0.2; done
{counted}",
        url = done.world.url(),
        counted = counted(&done.world, &errors::plugin_config(options)),
    )
}

/// For several peers.
pub fn peers_lines(options: &Options, done: &Peers) -> String {
    let burst = options.limit + 12;
    format!(
        "
It is still running, until Ctrl-C. {burst} requests at once against a limit of {limit}; the \"name\" in each answer is the cluster that gave it:
  for i in $(seq {burst}); do echo \"$(curl -s -w ' %{{http_code}}' -H 'Host: {HOST}' -H 'x-delay-ms: {DELAY_MS}' {url})\" & done; wait
{counted}",
        limit = options.limit,
        url = done.world.url(),
        counted = counted(&done.world, &peers::plugin_config(options)),
    )
}

fn counted(world: &World, config: &Value) -> String {
    format!(
        "What the filter has counted, and its configuration:
  curl -s http://{}/stats | grep peer_spillover
  echo '{config}'",
        world.envoy.admin(),
    )
}
