//! Tones as WAV files, and how loud a tone is in one: what a telephone heard.

use std::f64::consts::TAU;

/// Samples a second, of 16 bits.
const RATE: u32 = 8_000;

/// Twenty seconds of a tone.
pub fn tone(hertz: u32) -> Vec<u8> {
    let samples = 20 * RATE;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + 2 * samples).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(RATE.to_le_bytes());
    wav.extend((2 * RATE).to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend((2 * samples).to_le_bytes());
    for sample in 0..samples {
        let phase = f64::from(sample * hertz % RATE) / f64::from(RATE) * TAU;
        wav.extend(((8_000.0 * phase.sin()) as i16).to_le_bytes());
    }
    wav
}

/// The part of a WAV file's power that lies at one frequency (Goertzel), 0 to 1. Its header may be cut short.
pub fn share_of(wav: &[u8], hertz: u32) -> f64 {
    let at = wav.windows(4).position(|four| four == b"data");
    let at = at.expect("a WAV file") + 8;
    let samples: Vec<f64> = wav[at..]
        .as_chunks::<2>()
        .0
        .iter()
        .map(|sample| f64::from(i16::from_le_bytes(*sample)))
        .collect();
    // Half a second at a time: telephones stretch and skip, which turns the phase.
    let parts = samples.chunks_exact(RATE as usize / 2);
    let (mut all, mut tone) = (0.0, 0.0);
    for part in parts {
        let factor = 2.0 * (TAU * f64::from(hertz) / f64::from(RATE)).cos();
        let (last, before) = part.iter().fold((0.0, 0.0), |(last, before), sample| {
            (sample + factor * last - before, last)
        });
        let power = last * last + before * before - factor * last * before;
        tone += 2.0 * power / part.len() as f64;
        all += part.iter().map(|sample| sample * sample).sum::<f64>();
    }
    tone / f64::max(all, 1.0)
}

/// Fails unless most of what a telephone heard is this tone, and there was a second of it at least.
#[track_caller]
pub fn assert_tone(wav: &[u8], hertz: u32) {
    let share = share_of(wav, hertz);
    assert!(
        share > 0.7 && wav.len() > 2 * RATE as usize,
        "{hertz} Hz is {share:.2} of {} bytes",
        wav.len()
    );
}

#[test]
fn a_tone_is_told_from_another() {
    let wav = tone(700);
    assert!(share_of(&wav, 700) > 0.98);
    assert!(share_of(&wav, 400) < 0.02);
    assert!(share_of(&wav[..60_000], 700) > 0.98);
    let silence = [&wav[..44], &[0; 32_000]].concat();
    assert!(share_of(&silence, 700) < 0.02);
}
