//! Pins: alternate functions of SPI 1 and USART 2, chip select, data ready, trigger.

use core::convert::Infallible;

use embedded_hal::digital::{ErrorType, InputPin, OutputPin};

use crate::pac;

/// PA4, active low.
pub(crate) struct ChipSelect<'a>(pub(crate) &'a pac::GPIOA);
/// PA0, active high.
pub(crate) struct DataReady<'a>(pub(crate) &'a pac::GPIOA);
/// PC13, a button to ground.
pub(crate) struct Trigger<'a>(pub(crate) &'a pac::GPIOC);

pub(crate) fn set_up(a: &pac::GPIOA, c: &pac::GPIOC) {
    a.bsrr().write(|w| w.bs4().set_bit());
    a.afrl().modify(|_, w| w.afrl2().af7().afrl3().af7().afrl5().af5().afrl6().af5().afrl7().af5());
    a.moder().modify(|_, w| {
        w.moder0().input().moder4().output().moder2().alternate().moder3().alternate();
        w.moder5().alternate().moder6().alternate().moder7().alternate()
    });
    c.moder().modify(|_, w| w.moder13().input());
}

impl ErrorType for ChipSelect<'_> {
    type Error = Infallible;
}

impl OutputPin for ChipSelect<'_> {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.bsrr().write(|w| w.br4().set_bit());
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.bsrr().write(|w| w.bs4().set_bit());
        Ok(())
    }
}

impl ErrorType for DataReady<'_> {
    type Error = Infallible;
}

impl InputPin for DataReady<'_> {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.0.idr().read().idr0().bit_is_set())
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|high| !high)
    }
}

impl ErrorType for Trigger<'_> {
    type Error = Infallible;
}

impl InputPin for Trigger<'_> {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(self.0.idr().read().idr13().bit_is_set())
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|high| !high)
    }
}
