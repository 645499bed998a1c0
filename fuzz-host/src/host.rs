//! What each hostcall does and answers. An error is a status that is not OK, which had no effect.

use config::line;

use crate::fault::Family;
use crate::metrics::{GAUGE, Metric};
use crate::shared::NOT_FOUND;
use crate::spill;
use crate::stream::{Headers, Stage, Stream};
use crate::values;
use crate::world::{MILLI, Sabotage, World};
use policy::ejection::{Phase, Record};
use policy::names::keys;
use policy::recovery::mark::INSIDE;

/// The status of success.
pub const OK: u32 = 0;
const BAD_ARGUMENT: u32 = 2;
/// What the plugin's configuration is among the ABI's buffers.
const PLUGIN_CONFIGURATION: u32 = 7;
/// Unix time at the beginning of every case, in nanoseconds.
const EPOCH: u64 = 1_700_000_000_000_000_000;

/// What a hostcall answers that gives something.
pub type Answer<T> = Result<T, u32>;

/// The status of a hostcall that only succeeds or fails.
pub fn status(answer: Answer<()>) -> u32 {
    answer.err().unwrap_or(OK)
}

impl World {
    fn may(&mut self, family: Family) -> Answer<()> {
        self.refusal(family).map_or(Ok(()), Err)
    }

    /// `proxy_define_metric`: the number.
    pub fn define_metric(&mut self, me: usize, kind: u32, name: &[u8]) -> Answer<u32> {
        self.may(Family::Metric)?;
        // Where counts are to balance, what is defined is.
        if !self.faults.spares(Family::Count) && self.lies(Family::Metric) {
            self.misnumbered = true;
            return Ok(values::number(&mut self.rng) as u32);
        }
        let place = self
            .metrics
            .define(kind, &String::from_utf8_lossy(name))
            .ok_or(BAD_ARGUMENT)?;
        let numbers = &mut self.vms[me].metrics;
        numbers.push(place);
        // Envoy keeps the kind in the lower two bits.
        Ok(u32::try_from(numbers.len()).unwrap_or(0) << 2 | kind)
    }

    fn metric(&mut self, me: usize, id: u32) -> Answer<usize> {
        let nth = (id >> 2).wrapping_sub(1) as usize;
        let place = self.vms[me].metrics.get(nth).copied();
        let found = place.filter(|place| self.metrics.all[*place].kind == id & 3);
        if found.is_none() && !self.misnumbered {
            self.fail(format!("no metric of this VM has the number {id}"));
        }
        found.ok_or(NOT_FOUND)
    }

    /// `proxy_get_metric`; nothing where success is all that is answered.
    pub fn get_metric(&mut self, me: usize, id: u32) -> Answer<Option<u64>> {
        self.may(Family::Metric)?;
        let place = self.metric(me, id)?;
        if self.lies(Family::Metric) {
            let lie = values::number(&mut self.rng);
            return Ok(Some(lie).filter(|_| self.rng.chance(900)));
        }
        let Metric { name, value, .. } = &self.metrics.all[place];
        self.tell(|| format!("       = {}: {name}", *value as i64));
        Ok(Some(*value))
    }

    /// `proxy_record_metric`.
    pub fn record_metric(&mut self, me: usize, id: u32, value: u64) -> Answer<()> {
        self.may(Family::Metric)?;
        let place = self.metric(me, id)?;
        if !self.lies(Family::Metric) {
            self.metrics.all[place].record(value);
        }
        Ok(())
    }

    /// `proxy_increment_metric`.
    pub fn increment_metric(&mut self, me: usize, id: u32, n: i64) -> Answer<()> {
        self.may(Family::Count)?;
        let place = self.metric(me, id)?;
        if self.lies(Family::Count) {
            return Ok(());
        }
        let metric = &mut self.metrics.all[place];
        let counts = metric.kind == GAUGE && metric.name.ends_with("in_flight");
        if self.sabotage == Some(Sabotage::LoseOne) && counts && n == -1 {
            self.sabotage = None;
            return Ok(());
        }
        if !metric.add(n) {
            if !self.misnumbered {
                let what = format!("{n} added to the counter {}", metric.name);
                self.fail(what);
            }
            return Err(BAD_ARGUMENT);
        }
        let Metric { name, value, .. } = &self.metrics.all[place];
        let value = *value as i64;
        self.tell(|| format!("       + {n}, is {value}: {name}"));
        if self.vms[me].dying && n == INSIDE {
            self.tell(|| format!("vm {me} traps"));
            self.vms[me].die();
        }
        // The lower half is the count: see `in_flight` in the architecture. Others take a VM for dead if it stands still inside a
        // callback, and only there.
        let nobody_wronged = self.timely || (!self.traps && self.switches == 0);
        if counts
            && self.fair
            && nobody_wronged
            && (self.metrics.all[place].value as u32 as i32) < 0
        {
            let name = self.metrics.all[place].name.clone();
            self.fail(format!("{name} is below 0"));
        }
        Ok(())
    }

    /// `proxy_get_shared_data`: the value and its number.
    pub fn get_shared(&mut self, key: &[u8]) -> Answer<(Vec<u8>, u32)> {
        let truth = self.shared.get(key);
        let refused = self.refusal(Family::Shared);
        // To say that there is nothing would be a lie.
        if let Some(status) = refused.filter(|status| !self.balances || *status != NOT_FOUND) {
            return Err(status);
        }
        if self.lies(Family::Shared) {
            let (truth, cas) = truth.map_or((None, 0), |(value, cas)| (Some(value), cas));
            let lie = self.lie(truth);
            let cas = if self.rng.chance(800) { cas } else { 7 };
            return Ok((lie, cas));
        }
        truth.ok_or(NOT_FOUND)
    }

    /// `proxy_set_shared_data`.
    pub fn set_shared(&mut self, key: &[u8], value: &[u8], cas: u32) -> Answer<()> {
        let name = String::from_utf8_lossy(key);
        match keys::find(&name) {
            // A host that lies may have given this number.
            Some(known) if cas != 0 || known.replaced || !self.balances => {}
            Some(_) => self.fail(format!("{name} is replaced without a look at it")),
            None => self.fail(format!("{name} is not in the table of keys")),
        }
        self.may(Family::Shared)?;
        if self.lies(Family::Shared) {
            return Ok(());
        }
        match self.shared.set(key, value, cas) {
            OK if name.ends_with(keys::ERRORS) => {
                self.note_ejection(value);
                Ok(())
            }
            OK => Ok(()),
            status => Err(status),
        }
    }

    /// Counts an ejection that begins with this record and lasts longer than configured: here that is a millisecond, or whole
    /// tenths of a second.
    fn note_ejection(&mut self, record: &[u8]) {
        if let Phase::Ejected(until) = Record::from_bytes(record).phase
            && self.faults.spares(Family::Clock)
        {
            let lasts = until.0.saturating_sub(self.now / MILLI);
            // The filter may have read its clock a millisecond before.
            let longer = lasts > 100 && (2..98).contains(&(lasts % 100));
            self.longer += u64::from(longer);
        }
    }

    /// The header map of this number, if the stream is so far.
    fn headers(&mut self, me: usize, map: u32) -> Answer<&mut Headers> {
        let from = match map {
            0 | 1 => Stage::Requested,
            2 => Stage::Responded,
            3 => Stage::Trailed,
            _ => return Err(BAD_ARGUMENT),
        };
        let stream = self.vms[me].stream().filter(|stream| stream.stage >= from);
        let maps = stream.map(|stream| &mut stream.maps).ok_or(BAD_ARGUMENT)?;
        maps.get_mut(map as usize).ok_or(BAD_ARGUMENT)
    }

    /// `proxy_get_header_map_value`.
    pub fn get_header(&mut self, me: usize, map: u32, key: &[u8]) -> Answer<Vec<u8>> {
        self.may(Family::Header)?;
        let headers = self.headers(me, map)?;
        let truth = headers
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone());
        if self.lies(Family::Header) {
            return Ok(self.lie(truth));
        }
        truth.ok_or(NOT_FOUND)
    }

    /// `proxy_get_header_map_pairs`.
    pub fn get_headers(&mut self, me: usize, map: u32) -> Answer<Vec<u8>> {
        self.may(Family::Header)?;
        let truth = spill::encoded(self.headers(me, map)?);
        if self.same_spill && self.spill == serde_json::json!({}) {
            self.fail("all headers are read, and no configuration needs them");
        }
        if self.lies(Family::Header) {
            return Ok(self.lie(Some(truth)));
        }
        Ok(truth)
    }

    /// `proxy_replace_header_map_value`, or `proxy_remove_header_map_value` where there is no value.
    pub fn set_header(
        &mut self,
        me: usize,
        map: u32,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Answer<()> {
        self.may(Family::Header)?;
        let lies = self.lies(Family::Header);
        let headers = self.headers(me, map)?;
        if lies {
            return Ok(());
        }
        headers.retain(|(name, _)| name != key);
        if let Some(value) = value {
            headers.push((key.to_vec(), value.to_vec()));
        }
        if let Some(stream) = self.vms[me].stream().filter(|_| map == 0) {
            stream.rerouted |= key == b":authority" || key == b"x-peer-spillover-to";
        }
        Ok(())
    }

    /// `proxy_get_property`.
    pub fn get_property(&mut self, me: usize, path: &[u8]) -> Answer<Vec<u8>> {
        self.may(Family::Property)?;
        // Before its answer begins, what an upstream has finished is an attempt.
        let early = |stream: &mut Stream| stream.stage < Stage::Responded;
        if path == b"response\0backend_latency" && self.vms[me].stream().is_some_and(early) {
            self.fail("a stream is swept whose answer has not begun");
        }
        // Of the root of a request; the roots themselves have none.
        let stream = self.vms[me].stream().map(|stream| stream.root);
        let roots = &self.vms[me].roots;
        let root = roots.iter().find(|root| Some(root.id) == stream);
        let side = root.map(|root| root.runs.2.to_le_bytes().to_vec());
        let truth = match path {
            b"xds\0listener_direction" => side,
            b"plugin_name" => self.vms[me].root().map(|root| root.runs.0.into()),
            b"xds\0node\0id" => Some(self.node.into()),
            _ => self.vms[me]
                .stream()
                .and_then(|stream| stream.property(path)),
        };
        if self.lies(Family::Property) {
            return Ok(self.lie(truth));
        }
        truth.ok_or(NOT_FOUND)
    }

    /// `proxy_set_property`.
    pub fn set_property(&mut self, me: usize, path: &[u8], value: &[u8]) -> Answer<()> {
        self.may(Family::Property)?;
        if let Some(stream) = self.vms[me].stream().filter(|_| path == b"peer_spillover") {
            stream.tell(value);
        }
        Ok(())
    }

    /// `proxy_get_buffer_bytes`.
    pub fn get_buffer(
        &mut self,
        me: usize,
        kind: u32,
        start: usize,
        max: usize,
    ) -> Answer<Vec<u8>> {
        self.may(Family::Other)?;
        if kind != PLUGIN_CONFIGURATION {
            return Err(BAD_ARGUMENT);
        }
        let config = self.vms[me].root().map(|root| root.runs.1.clone());
        let config = config.ok_or(NOT_FOUND)?;
        if self.lies(Family::Other) {
            return Ok(self.lie(Some(config.to_vec())));
        }
        let end = start.saturating_add(max).min(config.len());
        Ok(config.get(start..end).unwrap_or_default().to_vec())
    }

    /// `proxy_set_effective_context`.
    pub fn set_effective_context(&mut self, me: usize, id: u32) -> Answer<()> {
        self.may(Family::Other)?;
        let vm = &mut self.vms[me];
        let lives = vm.streams.iter().any(|stream| stream.id == id)
            || vm.roots.iter().any(|root| root.id == id);
        if !lives {
            return Err(BAD_ARGUMENT);
        }
        vm.effective = id;
        Ok(())
    }

    /// `proxy_set_tick_period_milliseconds`.
    pub fn set_tick_period(&mut self, me: usize, period: u32) -> Answer<()> {
        // Without ticks a VM is dead to the others, which Envoy never makes it.
        if !self.balances {
            self.may(Family::Other)?;
        }
        if let Some(root) = self.vms[me].root() {
            root.ticks = period > 0;
            // As in Envoy, also what was due before.
            root.due &= root.ticks;
        }
        Ok(())
    }

    /// `proxy_http_call`: the token.
    pub fn http_call(&mut self, cluster: &[u8]) -> Answer<u32> {
        self.may(Family::Other)?;
        if cluster.is_empty() || self.rng.chance(200) {
            return Err(BAD_ARGUMENT);
        }
        Ok(self.rng.bits() as u32)
    }

    /// `proxy_send_local_response`.
    pub fn reply(&mut self, me: usize) -> Answer<()> {
        self.may(Family::Other)?;
        self.vms[me].replied = true;
        Ok(())
    }

    /// A clock: that of the wall, or the one that only goes forward.
    pub fn clock(&mut self, of_the_wall: bool) -> Answer<Option<u64>> {
        self.may(Family::Clock)?;
        if self.lies(Family::Clock) {
            let lie = values::number(&mut self.rng);
            return Ok(Some(lie).filter(|_| self.rng.chance(900)));
        }
        let since = if of_the_wall { EPOCH } else { 0 };
        Ok(Some(self.now.saturating_add(since)))
    }

    /// `proxy_log`.
    pub fn log(&mut self, level: u32, line: &[u8]) -> Answer<()> {
        if level > 5 {
            self.fail(format!("a log line of level {level}"));
        }
        let text = str::from_utf8(line).unwrap_or("\n");
        if text.len() > line::MOST || text.chars().any(line::is_hidden) {
            self.fail(format!("{} bytes are no line: {text:.60?}", text.len()));
        }
        // Its head, once, and something behind it.
        let said = text.strip_prefix("peer-spillover: ").unwrap_or_default();
        if said.is_empty() || said.starts_with("peer-spillover: ") {
            self.fail(format!("{text:.80?} is no line of ours"));
        }
        self.tell(|| format!("       | {}", String::from_utf8_lossy(line)));
        self.may(Family::Other)
    }
}
