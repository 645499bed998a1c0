//! Requests written byte by byte, for what an ordinary client does not do: stop in the middle, or switch protocols.

use anyhow::{Result, bail};
use envoy_test::World;
use envoy_test::world::HOST;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An HTTP/1.1 connection to home's proxy on which `head` (request line and headers but Host, a line each, without the
/// empty line) and `body` were written.
pub async fn raw(world: &World, head: &str, body: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(world.addr()).await?;
    let head = head.trim().replace('\n', "\r\n");
    let text = format!("{head}\r\nhost: {HOST}\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    stream.write_all(body).await?;
    Ok(stream)
}

/// The head of the answer on `stream`, in lower case, up to its empty line.
pub async fn read_head(stream: &mut TcpStream) -> Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // One by one: what follows the head is not ours to read.
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => bail!(
                "the answer ends in its head: {}",
                String::from_utf8_lossy(&head)
            ),
        }
    }
    Ok(String::from_utf8_lossy(&head).to_lowercase())
}

/// A slot at home that is held: by a request whose body is not sent to its end. So no timeout of a route runs yet.
pub struct Slot(TcpStream);

impl Slot {
    /// Takes the one slot of an idle home.
    pub async fn take(world: &World) -> Result<Slot> {
        let head = "POST /slot HTTP/1.1\ncontent-length: 2\nconnection: close";
        let stream = raw(world, head, b"x").await?;
        world.home.wait_in_flight(1).await?;
        world.wait_count(1).await?;
        Ok(Slot(stream))
    }

    /// Ends the request, which must be answered well.
    pub async fn give_back(mut self) -> Result<()> {
        self.0.write_all(b"x").await?;
        let head = read_head(&mut self.0).await?;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        self.0.read_to_end(&mut Vec::new()).await?;
        Ok(())
    }
}
