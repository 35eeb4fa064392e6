//! A street of crackers before the server, and an administrator who bans and lifts bans.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;
use sipkeep::testing::random::Random;

use super::history::History;
use super::load::{Counts, End, PACE};
use crate::peers::desk::{Gone, Phone};
use crate::peers::harness::{Network, Server, TOKEN, http};

/// Bans at a time, before more are lifted than made.
const BANS_MAX: usize = 120;
/// The crackers' addresses in the server's network.
const STREET: std::ops::RangeInclusive<u8> = 60..=250;
/// What a failing cracker waits for an answer.
const ANSWER: Duration = Duration::from_millis(500);
/// How long an administrator waits for what he sees.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a source is banned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ban {
    No,
    /// Until some time that nobody has seen yet.
    Unseen,
    Until(String),
}

impl Ban {
    /// Whether this is what the list says.
    pub fn is(&self, until: Option<&String>) -> bool {
        match (self, until) {
            (Self::No, None) | (Self::Unseen, Some(_)) => true,
            (Self::Until(own), Some(until)) => own == until,
            _ => false,
        }
    }
}

/// Crackers, and an administrator.
pub struct Street {
    network: Network,
    server: std::net::SocketAddr,
    http: std::net::SocketAddr,
    random: Random,
    pub bans: BTreeMap<Ipv4Addr, History<Ban>>,
    made: u32,
    pub counts: Counts,
    end: End,
}

impl Street {
    pub fn new(server: &Server, random: &Random, end: &End) -> Self {
        Self {
            network: server.network,
            server: server.sip(),
            http: server.http(),
            random: random.fork("street"),
            bans: BTreeMap::new(),
            made: 0,
            counts: Counts::default(),
            end: end.clone(),
        }
    }

    pub fn live(&mut self) {
        while !self.end.has_come() {
            let banned = self.banned();
            let done = match self.random.below(10) {
                0..4 if banned.len() < BANS_MAX => self.crack(),
                4..7 if banned.len() < BANS_MAX => self.ban(),
                7..9 => self.unban(&banned),
                _ if banned.len() >= BANS_MAX => self.unban(&banned),
                _ => self.api("GET", "status", "").map(drop),
            };
            if done.is_err() {
                return;
            }
            std::thread::sleep(self.random.up_to(PACE));
        }
    }

    fn banned(&self) -> Vec<Ipv4Addr> {
        let is_banned = |(_, history): &(&Ipv4Addr, &History<Ban>)| *history.last() != Ban::No;
        let banned = self.bans.iter().filter(is_banned);
        banned.map(|(source, _)| *source).collect()
    }

    /// Asks the API: status and body.
    fn api(&self, method: &str, path: &str, body: &str) -> Result<(u16, Value), Gone> {
        let answer = http(
            self.http,
            method,
            &format!("/api/v1/{path}"),
            Some(TOKEN),
            body,
        );
        match answer {
            Ok((status, body)) => Ok((status, serde_json::from_str(&body).unwrap_or_default())),
            Err(error) => {
                let begun = Instant::now();
                while !self.end.is_over.load(Ordering::Relaxed) {
                    assert!(begun.elapsed() < PATIENCE, "{method} {path}: {error}");
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Gone)
            }
        }
    }

    fn history(&mut self, source: Ipv4Addr) -> &mut History<Ban> {
        self.bans.entry(source).or_insert(History::new(Ban::No))
    }

    /// Wrong passwords from an address of the street, until it is banned.
    fn crack(&mut self) -> Result<(), Gone> {
        let width = u64::from(STREET.end() - STREET.start()) + 1;
        let host = STREET.start() + self.random.below(width) as u8;
        let source = self.network.host(host);
        if *self.history(source).last() != Ban::No {
            return Ok(());
        }
        let mut cracker = Phone::udp("101", source, self.server, &self.end.is_over)
            .with_password("not-the-password");
        for failures in 0..=5 {
            if failures == 5 {
                self.history(source).ask(Ban::Unseen);
            }
            cracker.knock();
            if failures < 5 && cracker.heard(ANSWER).is_none() {
                // A stranger who asks too often waits, and gives up.
                return Ok(());
            }
        }
        let begun = Instant::now();
        loop {
            let (status, list) = self.api("GET", "bans?limit=20", "")?;
            assert_eq!(status, 200, "{list}");
            let own = source.to_string();
            let items = list["items"].as_array().unwrap();
            if let Some(ban) = items.iter().find(|ban| ban["source"] == own.as_str()) {
                assert_eq!(ban["reason"], "credentials", "{ban}");
                let until = ban["until"].as_str().unwrap().to_owned();
                self.history(source).told_as(Ban::Until(until));
                self.counts.bans += 1;
                return Ok(());
            }
            assert!(begun.elapsed() < PATIENCE, "{source} is not banned: {list}");
        }
    }

    /// An administrator bans an address far away.
    fn ban(&mut self) -> Result<(), Gone> {
        self.made += 1;
        let source = Ipv4Addr::from_bits(0x1400_0000 + self.made);
        self.history(source).ask(Ban::Unseen);
        let body = format!("{{\"source\": \"{source}\", \"for\": \"4h\"}}");
        let (status, ban) = self.api("POST", "bans", &body)?;
        assert!((200..300).contains(&status), "{status} {ban}");
        let until = ban["until"].as_str().unwrap().to_owned();
        self.history(source).told_as(Ban::Until(until));
        self.counts.bans += 1;
        Ok(())
    }

    fn unban(&mut self, banned: &[Ipv4Addr]) -> Result<(), Gone> {
        if banned.is_empty() {
            return Ok(());
        }
        let source = banned[self.random.below(banned.len() as u64) as usize];
        self.history(source).ask(Ban::No);
        let (status, answer) = self.api("DELETE", &format!("bans/{source}"), "")?;
        assert!((200..300).contains(&status), "{source}: {status} {answer}");
        self.history(source).told();
        self.counts.unbans += 1;
        Ok(())
    }

    /// Some addresses of the street that are banned, and a phone at each that knocks.
    pub fn knocking(&self, number: usize) -> Vec<Phone> {
        let banned = self.banned().into_iter();
        let own = banned.filter(|source| source.is_loopback()).take(number);
        own.map(|source| {
            let mut phone = Phone::udp("101", source, self.server, &self.end.is_over);
            phone.knock();
            phone
        })
        .collect()
    }
}
