//! SPI 1 as a master, and USART 2 at 115,200 baud from the 16 MHz clock.

use embedded_hal::spi::{self, SpiBus};
use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write};

use crate::pac;

pub(crate) struct Bus(pac::SPI1);

impl Bus {
    pub(crate) fn new(registers: pac::SPI1) -> Self {
        registers.cr2().write(|w| w.ds().eight_bit().frxth().set_bit());
        registers.cr1().write(|w| w.mstr().set_bit().ssm().set_bit().ssi().set_bit().br().div2().spe().set_bit());
        Self(registers)
    }

    fn exchange(&self, out: u8) -> Result<u8, spi::ErrorKind> {
        self.wait(|status| status.txe().bit_is_set())?;
        self.0.dr8().write(|w| w.dr().set(out));
        self.wait(|status| status.rxne().bit_is_set())?;
        Ok(self.0.dr8().read().dr().bits())
    }

    fn wait(&self, ready: impl Fn(&pac::spi1::sr::R) -> bool) -> Result<(), spi::ErrorKind> {
        for _ in 0..100_000 {
            let status = self.0.sr().read();
            if status.ovr().bit_is_set() {
                return Err(spi::ErrorKind::Overrun);
            }
            if status.modf().bit_is_set() {
                return Err(spi::ErrorKind::ModeFault);
            }
            if ready(&status) {
                return Ok(());
            }
        }
        Err(spi::ErrorKind::Other)
    }
}

impl spi::ErrorType for Bus {
    type Error = spi::ErrorKind;
}

impl SpiBus for Bus {
    fn read(&mut self, words: &mut [u8]) -> Result<(), spi::ErrorKind> {
        words.iter_mut().try_for_each(|word| self.exchange(0).map(|byte| *word = byte))
    }

    fn write(&mut self, words: &[u8]) -> Result<(), spi::ErrorKind> {
        words.iter().try_for_each(|word| self.exchange(*word).map(|_| ()))
    }

    fn transfer(&mut self, read: &mut [u8], write: &[u8]) -> Result<(), spi::ErrorKind> {
        for position in 0..read.len().max(write.len()) {
            let byte = self.exchange(write.get(position).copied().unwrap_or(0))?;
            if let Some(word) = read.get_mut(position) {
                *word = byte;
            }
        }
        Ok(())
    }

    fn transfer_in_place(&mut self, words: &mut [u8]) -> Result<(), spi::ErrorKind> {
        words.iter_mut().try_for_each(|word| self.exchange(*word).map(|byte| *word = byte))
    }

    fn flush(&mut self) -> Result<(), spi::ErrorKind> {
        self.wait(|status| status.bsy().bit_is_clear())
    }
}

pub(crate) struct Link(pac::USART2);

impl Link {
    pub(crate) fn new(registers: pac::USART2) -> Self {
        registers.brr().write(|w| w.brr().set(139));
        registers.cr1().write(|w| w.te().set_bit().re().set_bit().ue().set_bit());
        Self(registers)
    }
}

impl ErrorType for Link {
    type Error = ErrorKind;
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        for byte in bytes {
            while self.0.isr().read().txe().bit_is_clear() {}
            self.0.tdr().write(|w| w.tdr().set(u16::from(*byte)));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        while self.0.isr().read().tc().bit_is_clear() {}
        Ok(())
    }
}

impl Read for Link {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        let Some(first) = bytes.first_mut() else { return Ok(0) };
        while !self.read_ready()? {}
        *first = self.0.rdr().read().rdr().bits() as u8;
        Ok(1)
    }
}

impl ReadReady for Link {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        let status = self.0.isr().read();
        if status.ore().bit_is_set() {
            // An answer was lost. The packet that it was in is damaged and is sent again.
            self.0.icr().write(|w| w.orecf().clear_bit_by_one());
        }
        Ok(status.rxne().bit_is_set())
    }
}
