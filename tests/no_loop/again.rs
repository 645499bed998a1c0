//! A service whose application calls the same service again.

use anyhow::Result;
use envoy_test::world::{Clusters, HOST};

use crate::common::*;

/// The application of cluster two gets a guest, and makes a request of its own of it, with all the headers that came with it.
/// That is a new request: nothing of it is the guest's, so it may be spilled, and it is counted like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_an_application_makes_of_a_guest_is_no_guest() -> Result<()> {
    for routing in ROUTINGS {
        let clusters = Clusters::start(&[
            member("one", 1, &["two"], routing),
            member("two", 1, &["three"], routing),
            member("three", 1, &["one"], routing),
        ])
        .await?;
        let [one, two, three] = &clusters[..] else {
            panic!("there are three");
        };
        let mut held = vec![hold(&clusters, one, &[]).await?];
        // The guest, which waits for what its application does.
        held.push(hold(&clusters, one, &[]).await?);
        assert_eq!(decided(&two.envoy, "home", "guest").await?, 1);
        let guest = two.home.requests().swap_remove(0);
        assert_eq!(markers(&guest), ["one"], "{routing}");
        let copied = guest.headers.iter();
        let copied = copied.filter(|(name, _)| name.starts_with("x-"));
        let mut copied: Vec<_> = copied.map(|(n, v)| (n.as_str(), v.as_str())).collect();
        copied.push((TO, "one"));

        // The guest has the place that there is, so the new request leaves, and says that cluster two sent it.
        held.push(hold(&clusters, two, &copied).await?);
        assert_eq!(decided(&two.envoy, "three", "limit").await?, 1, "{routing}");
        let next = three.home.requests().swap_remove(0);
        assert_eq!(markers(&next), ["two"], "{routing}");
        assert_eq!(next.header(TO), None, "{routing}");
        assert_eq!(decided(&three.envoy, "home", "guest").await?, 1);

        // And so on, one crossing for each request: back to where the first came from.
        held.push(hold(&clusters, three, &copied).await?);
        assert_eq!(decided(&three.envoy, "one", "limit").await?, 1, "{routing}");
        assert_eq!(markers(&one.home.requests()[1]), ["three"], "{routing}");
        for cluster in clusters.iter() {
            assert_eq!(cluster.arrived().await?, 1, "{routing}");
        }

        // Where there is room it stays, as any other.
        release(&clusters, held).await?;
        let answer = two.client().await?.get(HOST, &copied).await?;
        assert_eq!(answer.header("x-peer-spillover"), "home; reason=room");
        let stayed = two.home.requests().pop();
        assert_eq!(stayed.map(|stayed| markers(&stayed).len()), Some(0));
    }
    Ok(())
}
