"""A telephone of PJSUA2 without a sound card, for tests/peers/phones.rs.

telephone.py SERVER ADDRESS USER PASSWORD TRANSPORT SECONDS [call NUMBER | answer]

Registers at SERVER from ADDRESS, then calls NUMBER, or answers the first call. Says what happens, one word a line:
registered, incoming, confirmed, rx N (RTP packets received), disconnected CODE. It hangs up a call that it made after
two seconds of talk; one that it answered, after the other side hung up. Ends after SECONDS at the latest.
"""

import sys
import time

import pjsua2 as pj

server, address, user, password, transport, seconds, job = sys.argv[1:8]
number = sys.argv[8] if len(sys.argv) > 8 else None
deadline = time.monotonic() + float(seconds)


def say(*words):
    print(*words, flush=True)


class Call(pj.Call):
    confirmed_at = None
    over = False

    def onCallState(self, parameters):
        information = self.getInfo()
        if information.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self.confirmed_at = time.monotonic()
            say("confirmed")
        elif information.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            self.over = True
            say("disconnected", information.lastStatusCode)

    def onCallMediaState(self, parameters):
        # Something must be sent: the sound of the conference bridge's master port, which is silence.
        for index, media in enumerate(self.getInfo().media):
            if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                audio = self.getAudioMedia(index)
                endpoint.audDevManager().getCaptureDevMedia().startTransmit(audio)
                audio.startTransmit(endpoint.audDevManager().getPlaybackDevMedia())

    def received(self):
        return self.getStreamStat(0).rtcp.rxStat.pkt


class Account(pj.Account):
    call = None
    registered = False

    def onRegState(self, parameters):
        if parameters.code == 200 and parameters.expiration > 0:
            if not self.registered:
                say("registered")
            self.registered = True
        else:
            say("registration", parameters.code)

    def onIncomingCall(self, parameters):
        # The reference is kept: a collected Call is a call hung up.
        self.call = Call(self, parameters.callId)
        say("incoming")
        ringing = pj.CallOpParam()
        ringing.statusCode = 180
        self.call.answer(ringing)
        answer = pj.CallOpParam()
        answer.statusCode = 200
        self.call.answer(answer)


endpoint = pj.Endpoint()
endpoint.libCreate()
configuration = pj.EpConfig()
configuration.uaConfig.threadCnt = 0
configuration.uaConfig.mainThreadOnly = True
# Silence is sent too, so that packets can be counted.
configuration.medConfig.noVad = True
configuration.logConfig.level = 0
configuration.logConfig.consoleLevel = 0
endpoint.libInit(configuration)
endpoint.audDevManager().setNullDev()
listening = pj.TransportConfig()
listening.boundAddress = address
listening.port = 5060
kind = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP}[transport]
endpoint.transportCreate(kind, listening)
endpoint.libStart()

settings = pj.AccountConfig()
settings.idUri = f"sip:{user}@{server}"
suffix = ";transport=tcp" if transport == "tcp" else ""
settings.regConfig.registrarUri = f"sip:{server}{suffix}"
settings.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", user, 0, password))
settings.sipConfig.proxies.append(f"sip:{server};lr{suffix}")
settings.mediaConfig.transportConfig.boundAddress = address
account = Account()
account.create(settings)

made = False
ended = None
counted = False
while time.monotonic() < deadline:
    endpoint.libHandleEvents(10)
    if job == "call" and account.registered and not made:
        made = True
        account.call = Call(account)
        account.call.makeCall(f"sip:{number}@{server}{suffix}", pj.CallOpParam(True))
    call = account.call
    if call is None:
        continue
    talking = call.confirmed_at is not None and not call.over
    if talking and not counted and time.monotonic() > call.confirmed_at + 1.5:
        counted = True
        say("rx", call.received())
    if talking and job == "call" and time.monotonic() > call.confirmed_at + 2:
        call.confirmed_at = time.monotonic() + 3600
        call.hangup(pj.CallOpParam())
    if call.over:
        # A moment for the last answers.
        ended = ended or time.monotonic()
        if time.monotonic() > ended + 0.5:
            break

# The last references to the call go while the library still runs.
call = None
account.call = None
account.shutdown()
for _ in range(50):
    endpoint.libHandleEvents(10)
endpoint.libDestroy()
say("end")
