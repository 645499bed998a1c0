//! Errors are home's, whichever worker saw them.

use anyhow::Result;
use envoy_test::client::{self, get};
use envoy_test::world::HOME;

use crate::common::{Service, after, builder, on_each_worker};

#[tokio::test]
async fn errors_of_different_workers_are_counted_together() -> Result<()> {
    for workers in [2, 4] {
        let world = builder(&[after(4), after(4)])
            .workers(workers)
            .start()
            .await?;
        let mut clients = on_each_worker(&world, workers as usize).await?;
        let service = Service::new(&world, 0);
        let bad = [("x-status", "500")];
        for error in 0..4 {
            assert_eq!(service.stat("ejected").await?, 0, "after {error}");
            let client = &mut clients[error % workers as usize];
            let answer = client.get(&service.host, &bad).await?;
            assert_eq!(answer.served_by(), HOME);
        }
        assert_eq!(service.errors_and_ejected().await?, (4, 1));
        for client in &mut clients {
            let answer = client.get(&service.host, &[]).await?;
            assert_eq!(answer.header("x-peer-spillover"), "gke; reason=ejected");
        }

        // A good answer that one worker saw ends the run that another one counts.
        let service = Service::new(&world, 1);
        for good in 1..workers as usize {
            for _ in 0..3 {
                clients[0].get(&service.host, &bad).await?;
            }
            clients[good].get(&service.host, &[]).await?;
        }
        assert_eq!(service.stat("ejected").await?, 0);
        for error in 0..4 {
            assert_eq!(service.stat("ejected").await?, 0, "after {error}");
            clients[error % workers as usize]
                .get(&service.host, &bad)
                .await?;
        }
        assert_eq!(service.stat("ejected").await?, 1);
    }
    Ok(())
}

/// All the errors that are on their way when home is ejected come to one ejection.
#[tokio::test(flavor = "multi_thread")]
async fn errors_at_the_same_time_eject_once() -> Result<()> {
    for workers in [4] {
        let world = builder(&[after(1), after(5), after(30)])
            .workers(workers)
            .start()
            .await?;
        for n in 0..3 {
            let service = Service::new(&world, n);
            let mut held = vec![];
            for client in on_each_worker(&world, workers as usize).await? {
                let mut client = client;
                let host = service.host.clone();
                held.push(tokio::spawn(async move {
                    client
                        .get(&host, &[("x-status", "503"), ("x-hold", "all")])
                        .await
                }));
            }
            for _ in 0..60 {
                let mut client = world.client(false).await?;
                let request = get(&service.host, &[("x-status", "503"), ("x-hold", "all")])?;
                held.push(tokio::spawn(async move {
                    client::read(client.start(request).await?).await
                }));
            }
            world.home.wait_in_flight(held.len()).await?;
            let all = held.len();
            world.home.release("all");
            for answer in held {
                assert_eq!(answer.await??.served_by(), HOME);
            }
            service.wait_done().await?;
            assert_eq!(service.stat("ejections").await?, 1, "of {all}");
            assert_eq!(service.stat("ejected").await?, 1);
            assert_eq!(service.ejected_for(), [3_600_000]);
            world.home.clear();
        }
    }
    Ok(())
}
