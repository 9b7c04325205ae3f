//! Slots that nobody vouches for: asked after, never just forgotten.
//!
//! A slot is freed when its submission is superseded, done, or certainly over at RunPod. One that
//! is still in flight by its part's record has lost its watch, or waits for a fetcher: it is
//! watched again, and the register of turns drops what is one watch too many.

use crate::core::Core;
use crate::error::Error;
use crate::posting::Submitted;
use photofinish_jobstore::{Slot, SlotKind};
use photofinish_model::SlotName;
use photofinish_model::part::{Command, Part, Phase};
use photofinish_objects::RunDoc;
use photofinish_runtime::{Shutdown, error_chain};
use std::sync::Arc;
use std::time::Duration;

/// How often slots are looked at.
const LOOK: Duration = Duration::from_secs(15);
/// How long a slot is left alone after its watch was published again: while no fetcher is there,
/// copies must not pile up.
const REWATCHED_TTL: Duration = Duration::from_secs(600);

/// Asks after expired slots for as long as the process lives.
pub async fn run(core: Arc<Core>, shutdown: Shutdown) {
    while !shutdown.stopping() {
        if let Err(error) = core.ask_after_slots().await {
            tracing::warn!(error = error_chain(&error), "look through the slots");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shutdown.wait() => {}
        }
    }
}

impl Core {
    async fn ask_after_slots(&self) -> Result<(), Error> {
        let expired = |slot: &Slot| slot.kind == SlotKind::Attempt && slot.left_ms == 0;
        for endpoint in &self.config.endpoints {
            let endpoint = endpoint.id.as_str();
            let slots = self.jobstore.slots(endpoint).await?;
            for slot in slots.into_iter().filter(expired) {
                if let Ok(name) = slot.name.parse::<SlotName>() {
                    match self.ask_after(endpoint, &name).await {
                        Ok(()) => {}
                        Err(error) if error.is_transient() => return Err(error),
                        // What cannot be read must not keep the others from being asked after.
                        Err(error) => tracing::error!(
                            slot = slot.name,
                            error = error_chain(&error),
                            "ask after a slot"
                        ),
                    }
                } else {
                    tracing::warn!(slot = slot.name, "a slot without an owner is freed");
                    self.jobstore.free(endpoint, &slot.name).await?;
                }
            }
        }
        Ok(())
    }

    async fn ask_after(&self, endpoint: &str, slot: &SlotName) -> Result<(), Error> {
        let part = self.stored_part(&slot.job, slot.run, slot.part).await?;
        let current = part.filter(|part| part.nonce() == Some(&slot.nonce));
        let doc = self.objects.run(&slot.tenant, &slot.job, slot.run).await?;
        let (Some(part), Some(doc)) = (current, doc) else {
            tracing::info!(%slot, "freed: superseded or done");
            return self.free_slot(endpoint, slot).await;
        };
        let over = self.objects.end(&slot.tenant, &slot.job, slot.run).await?;
        if over.is_some() {
            return self.end_slot(endpoint, slot, &part).await;
        }
        self.watch_again(endpoint, slot, &part, &doc).await
    }

    /// The run is over: nothing of it may run on.
    async fn end_slot(&self, endpoint: &str, slot: &SlotName, part: &Part) -> Result<(), Error> {
        if let Phase::InFlight {
            runpod_id: Some(runpod_id),
            ..
        } = &part.phase
            && !self.cancel_attempt(endpoint, runpod_id).await
        {
            return Ok(());
        }
        tracing::info!(%slot, "freed: its run is over");
        self.free_slot(endpoint, slot).await
    }

    async fn watch_again(
        &self,
        endpoint: &str,
        slot: &SlotName,
        part: &Part,
        doc: &RunDoc,
    ) -> Result<(), Error> {
        let Some(Command::Watch {
            nonce,
            endpoint: _,
            runpod_id,
            items,
        }) = part.owed()
        else {
            return Ok(());
        };
        tracing::warn!(%slot, ?runpod_id, "nobody vouches for an attempt: watched again");
        let ready = crate::starting::part_ready(doc, slot.part, part.attempt);
        let attempt = Submitted {
            attempt: ready.with_nonce(nonce),
            endpoint,
            runpod_id,
            items: &items,
            state: Some(Box::new(part.carried())),
        };
        self.watch(doc, attempt).await?;
        Ok(self
            .jobstore
            .renew(endpoint, &slot.to_string(), REWATCHED_TTL)
            .await?)
    }
}
