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

/// The samples of a WAV file. Its header may be cut short.
#[track_caller]
pub fn samples(wav: &[u8]) -> Vec<i16> {
    let at = wav.windows(4).position(|four| four == b"data");
    let at = at.unwrap_or_else(|| panic!("no WAV file, of {} bytes", wav.len()));
    samples_from(wav, at + 8)
}

/// The same where they begin is known, since the header is written last.
pub fn samples_from(wav: &[u8], at: usize) -> Vec<i16> {
    let pairs = wav.get(at..).unwrap_or_default().as_chunks::<2>().0;
    pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect()
}

/// The part of a WAV file's power that lies at one frequency, 0 to 1.
pub fn share_of(wav: &[u8], hertz: u32) -> f64 {
    // Half a second at a time: telephones stretch and skip, which turns the phase.
    let samples = samples(wav);
    let parts = samples.chunks_exact(RATE as usize / 2);
    let (mut all, mut tone) = (0.0, 0.0);
    for part in parts {
        tone += power_of(part, hertz);
        all += part
            .iter()
            .map(|sample| f64::from(*sample).powi(2))
            .sum::<f64>();
    }
    tone / f64::max(all, 1.0)
}

/// The power of these samples that lies at one frequency (Goertzel).
fn power_of(part: &[i16], hertz: u32) -> f64 {
    let factor = 2.0 * (TAU * f64::from(hertz) / f64::from(RATE)).cos();
    let (last, before) = part.iter().fold((0.0, 0.0), |(last, before), sample| {
        (f64::from(*sample) + factor * last - before, last)
    });
    let power = last * last + before * before - factor * last * before;
    2.0 * power / part.len() as f64
}

/// How long a tone is heard in these samples, in milliseconds: it is most of what there is, and not too low.
pub fn heard_ms(samples: &[i16], hertz: u32) -> usize {
    const PART: usize = RATE as usize / 20;
    let is_heard = |part: &&[i16]| {
        let all: f64 = part.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        let tone = power_of(part, hertz);
        tone > 0.5 * all && tone > PART as f64 * 500.0 * 500.0
    };
    50 * samples.chunks_exact(PART).filter(is_heard).count()
}

/// How loud a tone is at its loudest, of what [`tone`] makes: 0 to 1.
pub fn loudest(samples: &[i16], hertz: u32) -> f64 {
    const PART: usize = RATE as usize / 10;
    let full = 8_000.0_f64.powi(2) / 2.0 * PART as f64;
    let powers = samples.chunks_exact(PART).map(|part| power_of(part, hertz));
    (powers.fold(0.0, f64::max) / full).sqrt()
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

/// G.711 µ-law of a sample.
pub fn mu_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs() + 132).min(32_767);
    let exponent = 24 - magnitude.leading_zeros() as i32;
    let mantissa = magnitude >> (exponent + 3) & 0x0f;
    !(sign | (exponent << 4) | mantissa) as u8
}

/// The sample of a byte of G.711 µ-law.
pub fn from_mu_law(byte: u8) -> i16 {
    let byte = i32::from(!byte);
    let magnitude = ((((byte & 0x0f) << 3) + 132) << (byte >> 4 & 7)) - 132;
    let sample = if byte & 0x80 != 0 {
        -magnitude
    } else {
        magnitude
    };
    sample as i16
}

#[test]
fn a_tone_is_told_from_another() {
    let wav = tone(700);
    assert!(share_of(&wav, 700) > 0.98);
    assert!(share_of(&wav, 400) < 0.02);
    assert!(share_of(&wav[..60_000], 700) > 0.98);
    let silence = [&wav[..44], &[0; 32_000]].concat();
    assert!(share_of(&silence, 700) < 0.02);
    let samples = samples(&wav[..44 + 16_000]);
    assert_eq!(
        (heard_ms(&samples, 700), heard_ms(&samples, 400)),
        (1_000, 0)
    );
    for sample in samples
        .iter()
        .copied()
        .chain([i16::MIN, -1, 0, 1, i16::MAX])
    {
        let back = i32::from(from_mu_law(mu_law(sample)));
        let error = (back - i32::from(sample)).abs();
        assert!(error <= 4 + i32::from(sample).abs() / 16, "{sample} {back}");
    }
    assert!(loudest(&samples, 700) > 0.9 && loudest(&samples, 400) < 0.02);
}
