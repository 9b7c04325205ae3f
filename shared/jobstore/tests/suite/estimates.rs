//! What was learned of how long work takes.

use super::*;
use photofinish_model::estimate::{Learned, Prior, Sample};

#[tokio::test]
async fn what_is_learned_is_kept_and_never_overwritten_by_what_knew_less() -> Outcome {
    let store = store()?;
    let nothing = store.estimates().await?;
    assert_eq!(nothing.learned(Operation::Img2vid), None);
    let prior = Learned::nothing(Prior::default().rate(Operation::Img2vid));
    let took = |seconds| Sample {
        items: 60,
        pixels: 60 * 60 * 1920 * 1080,
        seconds,
    };
    let first = prior.with(&took(77.7)).unwrap();
    assert!(store.learn(Operation::Img2vid, &nothing, first).await?);
    let late = prior.with(&took(33.3)).unwrap();
    assert!(!store.learn(Operation::Img2vid, &nothing, late).await?);
    let read = store.estimates().await?;
    assert_eq!(read.learned(Operation::Img2vid), Some(first));
    assert_eq!(read.learned(Operation::Caption), None);
    let second = first.with(&took(33.3)).unwrap();
    assert!(store.learn(Operation::Img2vid, &read, second).await?);
    let caption = Learned::nothing(Prior::default().rate(Operation::Caption));
    assert!(store.learn(Operation::Caption, &read, caption).await?);
    let both = store.estimates().await?;
    assert_eq!(both.learned(Operation::Img2vid), Some(second));
    assert_eq!(both.learned(Operation::Caption), Some(caption));
    Ok(())
}
