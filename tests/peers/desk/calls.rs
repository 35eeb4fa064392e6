//! Calls between these phones, each step awaited: challenges, ringing, answers, and how they end.

use super::{ANSWERED_MAX, Gone, Phone, Side, header, is_answer_to, status};

/// A call that is up.
#[derive(Clone, Debug)]
pub struct Call {
    /// Call-ID of the caller's INVITE.
    pub id: String,
    caller: Side,
    callee: Side,
}

/// How a call that is set up goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Answered,
    Busy,
    Cancelled,
}

/// What became of a call.
#[derive(Clone, Debug)]
pub enum Outcome {
    Up(Call),
    /// Its Call-ID, and the final answer.
    Refused(String, u16),
}

/// What stands between the first pair of angle brackets.
fn target(value: &str) -> String {
    let inside = value
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or(value, |(uri, _)| uri).to_owned()
}

impl Phone {
    fn description(&self) -> String {
        let host = self.local.ip();
        format!(
            "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n"
        )
    }

    /// Calls a number, with its challenge: the INVITE that counts, and the first answer to it that is none.
    fn invite(&mut self, side: &Side) -> Result<(String, String), Gone> {
        let description = self.description();
        for _ in 0..4 {
            let credentials = self.credentials("INVITE", &side.uri);
            let lines = format!(
                "{credentials}Contact: <{}>\r\nContent-Type: application/sdp\r\n",
                self.contact(0)
            );
            let number = self.number + 1;
            let request = self.request("INVITE", side, number, &lines, &description);
            self.send(&request);
            let answer =
                self.wait_for(Some(&request), |message| is_answer_to(message, &request))?;
            if !self.is_challenged(&answer) {
                return Ok((request, answer));
            }
            self.acknowledge(&request, &answer);
        }
        panic!("{} is challenged for ever", self.user)
    }

    /// ACK of a final answer that is no 200 (RFC 3261 §17.1.1.3).
    fn acknowledge(&mut self, invite: &str, answer: &str) {
        let [via, from, call_id] = ["Via", "From", "Call-ID"].map(|name| header(invite, name));
        let uri = invite.split(' ').nth(1).unwrap();
        let number = header(invite, "CSeq").split(' ').next().unwrap();
        let to = header(answer, "To");
        let ack = format!(
            "ACK {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {number} ACK\r\nContent-Length: 0\r\n\r\n"
        );
        self.send(&ack);
    }

    /// Dials a number that only the server answers, as a feature code; the final answer's status. Whatever is up then is ended.
    pub fn dial(&mut self, number: &str, id: &str) -> Result<u16, Gone> {
        let side = self.towards(format!("sip:{number}@{}", self.server.ip()), number, id);
        let (invite, answer) = self.invite(&side)?;
        let answer = self.final_answer(&invite, answer)?;
        let said = status(&answer);
        if said < 300 {
            let side = self.accept(side, &invite, &answer);
            let number = self.number + 1;
            let bye = self.request("BYE", &side, number, "", "");
            self.send(&bye);
            self.wait_for(Some(&bye), |message| is_answer_to(message, &bye))?;
        } else {
            self.acknowledge(&invite, &answer);
        }
        Ok(said)
    }

    fn final_answer(&mut self, invite: &str, first: String) -> Result<String, Gone> {
        if status(&first) >= 200 {
            return Ok(first);
        }
        self.wait_for(None, |message| {
            is_answer_to(message, invite) && status(message) >= 200
        })
    }

    /// ACK of a 200, and the side as it is from then on.
    fn accept(&mut self, mut side: Side, invite: &str, answer: &str) -> Side {
        side.uri = target(header(answer, "Contact"));
        header(answer, "To").clone_into(&mut side.other);
        let number = header(invite, "CSeq").split(' ').next().unwrap();
        let ack = self.request("ACK", &side, number.parse().unwrap(), "", "");
        self.send(&ack);
        side
    }

    /// The next INVITE that it has not answered.
    fn rung(&mut self) -> Result<String, Gone> {
        let answered = self.answered.clone();
        let invite = self.wait_for(None, |message| {
            message.starts_with("INVITE ")
                && !answered.iter().any(|via| via == header(message, "Via"))
        })?;
        self.answered.push_back(header(&invite, "Via").to_owned());
        if self.answered.len() > ANSWERED_MAX {
            self.answered.pop_front();
        }
        Ok(invite)
    }

    /// Calls a phone, which does as it is told. `dialled`: the number that leads there.
    pub fn call(
        &mut self,
        callee: &mut Self,
        dialled: &str,
        id: &str,
        how: How,
    ) -> Result<Outcome, Gone> {
        let side = self.towards(format!("sip:{dialled}@{}", self.server.ip()), dialled, id);
        let id = side.call_id.clone();
        let (invite, first) = self.invite(&side)?;
        if status(&first) >= 300 {
            self.acknowledge(&invite, &first);
            return Ok(Outcome::Refused(id, status(&first)));
        }
        let rung = callee.rung()?;
        callee.answer(&rung, 180, "");
        match how {
            How::Answered => {
                let description = callee.description();
                callee.answer(&rung, 200, &description);
                let answer = self.final_answer(&invite, first)?;
                assert_eq!(status(&answer), 200, "{answer}");
                let side = self.accept(side, &invite, &answer);
                callee.wait_for(None, |message| message.starts_with("ACK "))?;
                let callee_side = Side {
                    uri: target(header(&rung, "Contact")),
                    own: format!("{};tag={}", header(&rung, "To"), callee.name),
                    other: header(&rung, "From").to_owned(),
                    call_id: header(&rung, "Call-ID").to_owned(),
                };
                return Ok(Outcome::Up(Call {
                    id,
                    caller: side,
                    callee: callee_side,
                }));
            }
            How::Busy => callee.answer(&rung, 486, ""),
            How::Cancelled => {
                let rang = |message: &str| is_answer_to(message, &invite) && status(message) >= 180;
                if status(&first) < 180 {
                    self.wait_for(None, rang)?;
                }
                self.cancel(&invite);
                callee
                    .wait_for(None, |message| message.starts_with("CANCEL "))
                    .map(|cancel| callee.answer(&cancel, 200, ""))?;
                callee.answer(&rung, 487, "");
            }
        }
        let refusal = self.final_answer(&invite, String::new())?;
        self.acknowledge(&invite, &refusal);
        Ok(Outcome::Refused(id, status(&refusal)))
    }

    fn cancel(&mut self, invite: &str) {
        let [via, from, to, call_id] =
            ["Via", "From", "To", "Call-ID"].map(|name| header(invite, name));
        let uri = invite.split(' ').nth(1).unwrap();
        let number = header(invite, "CSeq").split(' ').next().unwrap();
        let cancel = format!(
            "CANCEL {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {number} CANCEL\r\nContent-Length: 0\r\n\r\n"
        );
        self.send(&cancel);
    }

    /// Calls a user whose Contacts are all this phone's, and gives up once so many of them ring: their Request-URIs, sorted.
    pub fn ring(
        &mut self,
        callee: &mut Self,
        contacts: usize,
        id: &str,
    ) -> Result<(String, Vec<String>), Gone> {
        let dialled = callee.user.clone();
        let side = self.towards(format!("sip:{dialled}@{}", self.server.ip()), &dialled, id);
        let id = side.call_id.clone();
        let (invite, first) = self.invite(&side)?;
        assert!(status(&first) < 300, "{dialled} is not rung: {first}");
        let mut rung = Vec::new();
        for _ in 0..contacts {
            let ringing = callee.rung()?;
            callee.answer(&ringing, 180, "");
            rung.push(ringing);
        }
        self.wait_for(None, |message| {
            is_answer_to(message, &invite) && status(message) == 180
        })?;
        self.cancel(&invite);
        for _ in 0..contacts {
            let cancel = callee.wait_for(None, |message| message.starts_with("CANCEL "))?;
            callee.answer(&cancel, 200, "");
        }
        for ringing in &rung {
            callee.answer(ringing, 487, "");
        }
        let refusal = self.final_answer(&invite, String::new())?;
        self.acknowledge(&invite, &refusal);
        let uri = |invite: &String| invite.split(' ').nth(1).unwrap().to_owned();
        let mut uris: Vec<String> = rung.iter().map(uri).collect();
        uris.sort();
        Ok((id, uris))
    }

    /// The caller ends a call, or the callee.
    pub fn hang_up(&mut self, other: &mut Self, call: &Call, is_callee: bool) -> Result<(), Gone> {
        let (own, far) = match is_callee {
            true => (&call.callee, &call.caller),
            false => (&call.caller, &call.callee),
        };
        let number = self.number + 1;
        let bye = self.request("BYE", own, number, "", "");
        self.send(&bye);
        let is_its = |message: &str| {
            message.starts_with("BYE ") && header(message, "Call-ID") == far.call_id
        };
        // The server answers at once: each side of a call ends for itself.
        let answer = self.wait_for(Some(&bye), |message| is_answer_to(message, &bye))?;
        assert_eq!(status(&answer), 200, "{answer}");
        let heard = other.wait_for(None, is_its)?;
        other.answer(&heard, 200, "");
        Ok(())
    }
}
