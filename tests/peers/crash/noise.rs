//! How late this machine is: its processors and its disk, watched from beside the server. The server's promise counts from
//! when it is let run.

use std::io::{Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(40);
/// Before now, what is counted.
const KEPT: Duration = Duration::from_secs(4);

/// When a look began, and how late its end was; the last one may not have ended.
type Looks = Mutex<Vec<(Instant, Option<Duration>)>>;

/// See the module.
pub struct Noise {
    looks: Arc<Looks>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Noise {
    /// Watches the disk that has this folder.
    pub fn watch(folder: &Path) -> Self {
        let looks: Arc<Looks> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (own, stopping) = (Arc::clone(&looks), Arc::clone(&stop));
        let mut file = std::fs::File::create(folder.join("noise")).unwrap();
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let begun = Instant::now();
                own.lock().unwrap().push((begun, None));
                std::thread::sleep(PAUSE);
                file.rewind().unwrap();
                file.write_all(&[b'x'; 4_096]).unwrap();
                file.sync_data().unwrap();
                let late = begun.elapsed().saturating_sub(PAUSE);
                let mut looks = own.lock().unwrap();
                looks.retain(|(at, _)| at.elapsed() < KEPT);
                if let Some(last) = looks.last_mut() {
                    last.1 = Some(late);
                }
            }
        });
        Self {
            looks,
            stop,
            thread: Some(thread),
        }
    }

    /// The latest that anything was of late.
    pub fn late(&self) -> Duration {
        let looks = self.looks.lock().unwrap();
        let late = looks
            .iter()
            .map(|(at, late)| late.unwrap_or_else(|| at.elapsed().saturating_sub(PAUSE)));
        late.max().unwrap_or_default()
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the watch panicked"
            );
        }
    }
}
