//! The last pages of the flash: two for the frame counter, one for the provisioning blob.
//!
//! The counter is a log of double words: the next number is written behind the last one, and when a page is full the other one is erased
//! and goes on. What a loss of power leaves is the old log, or the new number in it; a double word that was torn counts as used if it
//! reads as anything, and the number after it is higher than it. (A torn double word can raise an ECC error when it is read, RM0351 3.3.2: the
//! NMI handler of a product clears it and lets the read go on.)

use core::ptr;

use eds_firmware::Counter;

use crate::pac;

const PAGE: usize = 2048;
const END: usize = 0x0810_0000;
const PROVISION: usize = END - PAGE;
const LOGS: [usize; 2] = [END - 3 * PAGE, END - 2 * PAGE];
/// Number of the first log page in its bank: both are in bank 2, pages 253 and 254.
const LOG_PAGE: u8 = 253;
const WORDS: usize = PAGE / 8;
const EMPTY: u64 = u64::MAX;

/// The page with the provisioning blob.
pub(crate) fn provision() -> &'static [u8] {
    // SAFETY: flash of the part, outside of the program (memory.x), never written by it.
    unsafe { core::slice::from_raw_parts(PROVISION as *const u8, PAGE) }
}

pub(crate) struct FlashCounter(pac::FLASH);

/// The flash does not take the number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlashFault;

impl FlashCounter {
    pub(crate) const fn new(registers: pac::FLASH) -> Self {
        Self(registers)
    }

    fn wait(&self) -> Result<(), FlashFault> {
        while self.0.sr().read().bsy().bit_is_set() {}
        let status = self.0.sr().read();
        let failed = status.progerr().bit_is_set() || status.wrperr().bit_is_set() || status.pgserr().bit_is_set();
        if failed { Err(FlashFault) } else { Ok(()) }
    }

    fn unlocked<T>(&self, step: impl FnOnce(&Self) -> Result<T, FlashFault>) -> Result<T, FlashFault> {
        self.wait()?;
        for key in [0x4567_0123, 0xcdef_89ab] {
            // SAFETY: the two keys of RM0351, 3.3.5; a wrong one locks the flash until the next reset, and nothing else.
            self.0.keyr().write(|w| unsafe { w.bits(key) });
        }
        let outcome = step(self);
        self.0.cr().modify(|_, w| w.lock().set_bit());
        outcome
    }

    fn erase(&self, log: usize) -> Result<(), FlashFault> {
        let page = LOG_PAGE + log as u8;
        // SAFETY: a page of the counter, of bank 2.
        self.0.cr().modify(|_, w| unsafe { w.per().set_bit().bker().set_bit().pnb().bits(page) });
        self.0.cr().modify(|_, w| w.start().set_bit());
        let outcome = self.wait();
        self.0.cr().modify(|_, w| w.per().clear_bit());
        outcome
    }

    fn program(&self, log: usize, word: usize, number: u64) -> Result<(), FlashFault> {
        self.0.cr().modify(|_, w| w.pg().set_bit());
        let at = (LOGS[log] + 8 * word) as *mut u32;
        // SAFETY: an erased double word of a page that is the counter's alone; two words in order, as the part wants it.
        unsafe {
            ptr::write_volatile(at, number as u32);
            ptr::write_volatile(at.add(1), (number >> 32) as u32);
        }
        let outcome = self.wait();
        self.0.cr().modify(|_, w| w.pg().clear_bit());
        outcome
    }
}

impl Counter for FlashCounter {
    type Error = FlashFault;

    fn advance(&mut self) -> Result<u64, FlashFault> {
        let used = [0, 1].map(|log| (0..WORDS).rev().find(|word| read(log, *word) != EMPTY));
        let highest =
            |log: usize| used[log].map_or(0, |last| (0..=last).map(|word| read(log, word)).max().unwrap_or(0));
        let current = usize::from(highest(1) > highest(0));
        let next = highest(current).checked_add(1).filter(|next| *next != EMPTY).ok_or(FlashFault)?;
        let free = used[current].map_or(0, |last| last + 1);
        self.unlocked(|flash| {
            if free < WORDS {
                return flash.program(current, free, next);
            }
            flash.erase(1 - current)?;
            flash.program(1 - current, 0, next)
        })?;
        if [0, 1].iter().any(|log| (0..WORDS).any(|word| read(*log, word) == next)) {
            Ok(next)
        } else {
            Err(FlashFault)
        }
    }
}

fn read(log: usize, word: usize) -> u64 {
    // SAFETY: within the two pages of the counter.
    unsafe { ptr::read_volatile((LOGS[log] + 8 * word) as *const u64) }
}
