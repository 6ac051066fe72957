// SPDX-License-Identifier: GPL-2.0

//! What people see of the endpoint ids and of their domains.

use kernel::{
    fmt,
    prelude::*,
    sync::Arc, //
};

use super::Attached;
use crate::viommu::domain::Domain;

impl Attached {
    /// Writes a line for each id: the device, the number of the domain, and how that translates.
    pub(crate) fn show_ids(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("id device domain kind\n")?;
        for known in self.by_id.values() {
            let dev = self.dev_of(known.id);
            f.write_fmt(fmt!("{} {} ", known.id, dev.name()))?;
            match &known.now {
                Some(domain) => {
                    let (number, kind) = (domain.number.get(), domain.kind);
                    f.write_fmt(fmt!("{number} {kind}\n"))?;
                }
                None => f.write_str("- none\n")?,
            }
        }
        Ok(())
    }

    /// The domains that ids are attached to, and how many these are.
    pub(crate) fn domains(&self) -> Result<KVec<(Arc<Domain>, usize)>> {
        let mut domains: KVec<(Arc<Domain>, usize)> = KVec::new();
        for domain in self.by_id.values().filter_map(|known| known.now.as_ref()) {
            match domains.iter_mut().find(|(one, _)| Arc::ptr_eq(one, domain)) {
                Some((_, ids)) => *ids += 1,
                None => domains.push((domain.clone(), 1), GFP_KERNEL)?,
            }
        }
        Ok(domains)
    }
}
