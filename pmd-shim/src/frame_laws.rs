//! What every frame must do, whichever family it is of: random operations against a vector of bytes with room around.

use crate::{ChecksumStatus, Frame, FrameSource, NoHeadroom, NoTailroom, RxOffload, TooShort};
use proptest::prelude::*;

/// Something that is done to a frame.
#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Pop(usize),
    SetLen(usize),
    Write(usize, u8),
    Mark(u32),
    Offload(RxOffload),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let offload = (any::<bool>(), any::<Option<u16>>(), any::<bool>()).prop_map(|(good, vlan, truncated)| {
        let checksum = if good { ChecksumStatus::Verified } else { ChecksumStatus::Unverified };
        Step::Offload(RxOffload { checksum, vlan, truncated })
    });
    let step = prop_oneof![
        (0usize..200).prop_map(Step::Push),
        (0usize..200).prop_map(Step::Pop),
        (0usize..3000).prop_map(Step::SetLen),
        (any::<usize>(), any::<u8>()).prop_map(|(at, value)| Step::Write(at, value)),
        any::<u32>().prop_map(Step::Mark),
        offload,
    ];
    proptest::collection::vec(step, 0..60)
}

/// A frame as one would write it down: the bytes of its whole buffer, and where the frame is in it.
struct Model {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
    mark: u32,
    offload: RxOffload,
}

impl Model {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }

    /// New bytes have no particular content, so the frame's are taken over.
    fn learn(&mut self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.len);
        self.buffer[self.start..self.start + self.len].copy_from_slice(bytes);
    }
}

/// Does random things to frames of `source`, which have `headroom` bytes in front and `room` for the frame and what follows.
pub(crate) fn hold(source: impl FrameSource + Copy, headroom: usize, room: usize) {
    proptest!(ProptestConfig::with_cases(300), |(steps in steps())| {
        let mut source = source;
        let mut frame = source.allocate().unwrap();
        prop_assert_eq!((frame.bytes().len(), frame.mark(), frame.offload()), (0, 0, RxOffload::default()));
        let mut model = Model {
            buffer: vec![0; headroom + room],
            start: headroom,
            len: 0,
            mark: 0,
            offload: RxOffload::default(),
        };
        for step in steps {
            apply(&step, &mut frame, &mut model)?;
            prop_assert_eq!(frame.bytes(), model.bytes(), "{:?}", step);
            prop_assert_eq!(frame.bytes_mut(), model.bytes());
            prop_assert_eq!((frame.mark(), frame.offload()), (model.mark, model.offload));
        }
    });
}

fn apply<F: Frame>(step: &Step, frame: &mut F, model: &mut Model) -> Result<(), TestCaseError> {
    match *step {
        Step::Push(count) => {
            let fits = count <= model.start;
            prop_assert_eq!(frame.push_front(count), if fits { Ok(()) } else { Err(NoHeadroom) });
            if fits {
                let known = model.bytes().to_vec();
                model.start -= count;
                model.len += count;
                prop_assert_eq!(&frame.bytes()[count..], &known[..]);
                model.learn(frame.bytes());
            }
        }
        Step::Pop(count) => {
            let fits = count <= model.len;
            prop_assert_eq!(frame.pop_front(count), if fits { Ok(()) } else { Err(TooShort) });
            if fits {
                model.start += count;
                model.len -= count;
            }
        }
        Step::SetLen(len) => {
            let fits = model.start + len <= model.buffer.len();
            prop_assert_eq!(frame.set_len(len), if fits { Ok(()) } else { Err(NoTailroom) });
            if fits {
                let kept = model.len.min(len);
                let known = model.bytes()[..kept].to_vec();
                model.len = len;
                prop_assert_eq!(&frame.bytes()[..kept], &known[..]);
                model.learn(frame.bytes());
            }
        }
        Step::Write(at, value) if model.len > 0 => {
            let at = at % model.len;
            frame.bytes_mut()[at] = value;
            model.buffer[model.start + at] = value;
        }
        Step::Write(..) => {}
        Step::Mark(mark) => {
            frame.set_mark(mark);
            model.mark = mark;
        }
        Step::Offload(offload) => {
            frame.set_offload(offload);
            model.offload = offload;
        }
    }
    Ok(())
}
