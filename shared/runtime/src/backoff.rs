//! How long to wait before trying again: exponential, capped, with jitter.
//!
//! Guarantee: between half and all of `base * 2^attempt`, never above `cap`. Pure: the dice are a parameter.

use std::time::Duration;

/// The wait before try number `attempt` + 1, where `attempt` counts failures from 0 and `jitter` is drawn from 0..1
/// ([`crate::clock::jitter`]).
pub fn delay(attempt: u32, base: Duration, cap: Duration, jitter: f64) -> Duration {
    let factor = 2_u32.checked_pow(attempt).unwrap_or(u32::MAX);
    let full = base.saturating_mul(factor).min(cap);
    full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(10);

    #[test]
    fn doubles_up_to_the_cap_and_never_overflows() {
        assert_eq!(delay(0, BASE, CAP, 1.0), BASE);
        assert_eq!(delay(3, BASE, CAP, 1.0), BASE * 8);
        assert_eq!(delay(3, BASE, CAP, 0.0), BASE * 4);
        assert_eq!(delay(7, BASE, CAP, 1.0), CAP);
        assert_eq!(delay(u32::MAX, BASE, CAP, 1.0), CAP);
        assert_eq!(delay(4, BASE, CAP, 9.0), BASE * 16);
    }
}
