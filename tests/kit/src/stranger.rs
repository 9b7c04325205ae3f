//! A publisher that keeps to no rule but AMQP's: properties and headers are any bytes, which no AMQP library lets one
//! send. Frames are written by hand, one after the other without waiting.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter};
use tokio::net::TcpStream;

/// Longest wait for an answer of the broker.
const ANSWER: Duration = Duration::from_secs(30);
const BASIC: u16 = 60;
const FRAME_END: u8 = 0xce;

/// The properties of a message, as bytes; `None` leaves one out. Names as in AMQP 0-9-1, at most 255 bytes each.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "AMQP's own names")]
pub struct Properties {
    pub content_type: Option<Vec<u8>>,
    pub content_encoding: Option<Vec<u8>>,
    /// The rows of the table: name, kind and value of each, already encoded; see [`header`].
    pub headers: Option<Vec<u8>>,
    pub persistent: bool,
    pub correlation_id: Option<Vec<u8>>,
    pub reply_to: Option<Vec<u8>>,
    pub message_id: Option<Vec<u8>>,
    pub kind: Option<Vec<u8>>,
    pub user_id: Option<Vec<u8>>,
}

impl Properties {
    /// Flags and values, in AMQP's order.
    fn encode(&self) -> Vec<u8> {
        let (mut flags, mut values) = (0_u16, Vec::new());
        let mut short = |bit: u16, value: &Option<Vec<u8>>, values: &mut Vec<u8>| {
            if let Some(value) = value {
                flags |= 1 << bit;
                short_string(values, value);
            }
        };
        short(15, &self.content_type, &mut values);
        short(14, &self.content_encoding, &mut values);
        let mut rest = Vec::new();
        short(10, &self.correlation_id, &mut rest);
        short(9, &self.reply_to, &mut rest);
        short(7, &self.message_id, &mut rest);
        short(5, &self.kind, &mut rest);
        short(4, &self.user_id, &mut rest);
        if let Some(rows) = &self.headers {
            flags |= 1 << 13;
            values.extend_from_slice(&(rows.len() as u32).to_be_bytes());
            values.extend_from_slice(rows);
        }
        if self.persistent {
            flags |= 1 << 12;
            values.push(2);
        }
        values.extend_from_slice(&rest);
        [flags.to_be_bytes().as_slice(), &values].concat()
    }
}

/// One row of a table: a text.
pub fn header(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut row = Vec::new();
    short_string(&mut row, name);
    row.push(b'S');
    row.extend_from_slice(&(value.len() as u32).to_be_bytes());
    row.extend_from_slice(value);
    row
}

/// One row of a table: so many tables inside of each other.
pub fn nested(name: &[u8], depth: usize) -> Vec<u8> {
    let mut row = Vec::new();
    short_string(&mut row, name);
    row.push(b'F');
    row.extend_from_slice(&(6 * depth as u32).to_be_bytes());
    for inside in (0..depth as u32).rev() {
        row.extend_from_slice(&[0, b'F']);
        row.extend_from_slice(&(6 * inside).to_be_bytes());
    }
    row
}

/// A connection with one channel.
#[derive(Debug)]
pub struct Stranger {
    socket: BufWriter<TcpStream>,
    frame_bytes_max: usize,
    /// Messages so far; each is confirmed by its number.
    published: u64,
}

impl Stranger {
    /// Connects: `amqp://user:password@host:port/vhost`.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("amqp://").context("an AMQP URL")?;
        let (who, rest) = rest.split_once('@').context("user and password")?;
        let (user, password) = who.split_once(':').context("a password")?;
        let (address, vhost) = rest.split_once('/').context("a virtual host")?;
        let socket = TcpStream::connect(address).await.context("connect")?;
        let mut stranger = Self {
            socket: BufWriter::new(socket),
            frame_bytes_max: 4096,
            published: 0,
        };
        stranger.socket.write_all(b"AMQP\0\0\x09\x01").await?;
        stranger.expect(10, 10).await?;
        let mut start_ok = vec![0; 4];
        short_string(&mut start_ok, b"PLAIN");
        let secret = format!("\0{user}\0{password}");
        start_ok.extend_from_slice(&(secret.len() as u32).to_be_bytes());
        start_ok.extend_from_slice(secret.as_bytes());
        short_string(&mut start_ok, b"en_US");
        stranger.method(0, 10, 11, &start_ok).await?;
        let tune = stranger.expect(10, 30).await?;
        let bytes_max = tune.get(2..6).context("frame_max")?.try_into()?;
        stranger.frame_bytes_max = u32::from_be_bytes(bytes_max) as usize;
        // What the broker offers, but no heartbeat.
        let tune_ok = [&tune[..6], &[0, 0]].concat();
        stranger.method(0, 10, 31, &tune_ok).await?;
        let mut open = Vec::new();
        short_string(&mut open, vhost.as_bytes());
        open.extend_from_slice(&[0, 0]);
        stranger.method(0, 10, 40, &open).await?;
        stranger.expect(10, 41).await?;
        stranger.method(1, 20, 10, &[0]).await?;
        stranger.expect(20, 11).await?;
        stranger.method(1, 85, 10, &[0]).await?;
        stranger.expect(85, 11).await?;
        Ok(stranger)
    }

    /// Writes one message; it goes out with the next [`Stranger::flush`] at the latest.
    pub async fn publish(
        &mut self,
        exchange: &str,
        routing_key: &[u8],
        properties: &Properties,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let mut publish = vec![0, 0];
        short_string(&mut publish, exchange.as_bytes());
        short_string(&mut publish, routing_key);
        publish.push(0);
        self.published += 1;
        self.frame_of_method(1, BASIC, 40, &publish).await?;
        let mut head = [BASIC.to_be_bytes(), [0, 0]].concat();
        head.extend_from_slice(&(body.len() as u64).to_be_bytes());
        head.extend_from_slice(&properties.encode());
        self.frame(2, 1, &head).await?;
        for piece in body.chunks(self.frame_bytes_max - 8) {
            self.frame(3, 1, piece).await?;
        }
        Ok(())
    }

    /// Sends what is written, and returns when the broker has confirmed or refused each of it. A channel that ended
    /// sooner could take with it what a quorum queue has not written down.
    pub async fn flush(mut self) -> anyhow::Result<()> {
        let mut open: BTreeSet<u64> = (1..=self.published).collect();
        while !open.is_empty() {
            let payload = self.answer().await?;
            let (method, arguments) = payload.split_at_checked(4).context("a method")?;
            anyhow::ensure!(
                method == [0, 60, 0, 80] || method == [0, 60, 0, 120],
                "neither ack nor nack: {:?}",
                String::from_utf8_lossy(&payload)
            );
            let (tag, multiple) = arguments.split_at_checked(8).context("a number")?;
            let tag = u64::from_be_bytes(tag.try_into()?);
            if multiple.first().is_some_and(|bits| bits & 1 == 1) {
                open.retain(|open| *open > tag);
            } else {
                open.remove(&tag);
            }
        }
        let close = [&200_u16.to_be_bytes()[..], &[0; 5]].concat();
        self.method(1, 20, 40, &close).await?;
        self.expect(20, 41).await?;
        Ok(())
    }

    async fn method(
        &mut self,
        channel: u16,
        class: u16,
        method: u16,
        arguments: &[u8],
    ) -> anyhow::Result<()> {
        self.frame_of_method(channel, class, method, arguments)
            .await?;
        Ok(self.socket.flush().await?)
    }

    async fn frame_of_method(
        &mut self,
        channel: u16,
        class: u16,
        method: u16,
        arguments: &[u8],
    ) -> anyhow::Result<()> {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat();
        self.frame(1, channel, &payload).await
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> anyhow::Result<()> {
        self.socket.write_u8(kind).await?;
        self.socket.write_u16(channel).await?;
        self.socket.write_u32(payload.len() as u32).await?;
        self.socket.write_all(payload).await?;
        Ok(self.socket.write_u8(FRAME_END).await?)
    }

    /// The arguments of the next method, which must be this one.
    async fn expect(&mut self, class: u16, method: u16) -> anyhow::Result<Vec<u8>> {
        let payload = self.answer().await?;
        let wanted = [class.to_be_bytes(), method.to_be_bytes()].concat();
        let arguments = payload.strip_prefix(wanted.as_slice());
        arguments.map(<[u8]>::to_vec).with_context(|| {
            let text = String::from_utf8_lossy(&payload);
            format!("not {class}.{method}: {text:?}")
        })
    }

    /// The next method: class, number, arguments.
    async fn answer(&mut self) -> anyhow::Result<Vec<u8>> {
        self.socket.flush().await?;
        let reading = async {
            loop {
                let socket = self.socket.get_mut();
                let kind = socket.read_u8().await?;
                let _channel = socket.read_u16().await?;
                let mut payload = vec![0; socket.read_u32().await? as usize];
                socket.read_exact(&mut payload).await?;
                let _end = socket.read_u8().await?;
                // Heartbeats come in between.
                if kind == 1 {
                    return anyhow::Ok(payload);
                }
            }
        };
        tokio::time::timeout(ANSWER, reading)
            .await
            .context("no answer of the broker")?
            .context("the broker hung up")
    }
}

fn short_string(out: &mut Vec<u8>, value: &[u8]) {
    let value = &value[..value.len().min(255)];
    out.push(value.len() as u8);
    out.extend_from_slice(value);
}
