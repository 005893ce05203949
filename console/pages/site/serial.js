// The page of a serial console: xterm.js, and a connection that can be made again with a new token while what was on the terminal stays.
import { Terminal } from './xterm/xterm.mjs';
import { FitAddon } from './xterm/addon-fit.mjs';

const page = window.consolePage;
const element = (id) => document.getElementById(id);

const term = new Terminal({ scrollback: 5000, fontSize: 14, cursorBlink: false, linkHandler: { activate() {} } });
// What the guest prints is not trusted: it sets no title (OSC 0, 1, 2), makes no links (8), and touches no clipboard (52).
for (const command of [0, 1, 2, 8, 52]) {
	term.parser.registerOscHandler(command, () => true);
}
const fit = new FitAddon();
term.loadAddon(fit);
term.open(element('terminal'));
term.onResize(showSize);
new ResizeObserver(() => fit.fit()).observe(element('terminal'));
fit.fit();
showSize();

let token = page.token;
let socket = null;
const encoder = new TextEncoder();

term.onData((text) => send(encoder.encode(text)));
term.onBinary((text) => send(Uint8Array.from(text, (c) => c.charCodeAt(0))));
element('disconnect').addEventListener('click', () => {
	socket.close(1000);
});
element('tell-size').addEventListener('click', () => {
	send(encoder.encode(`stty rows ${term.rows} cols ${term.cols}\r`));
	term.focus();
});
page.onEnd = (text) => page.tell(text, again(), another());
connect();

function showSize() {
	element('size').textContent = `${term.cols} × ${term.rows}`;
}

function setState(state) {
	element('state').textContent = state;
	element('disconnect').disabled = element('tell-size').disabled = state !== 'connected';
}

// Of a long paste each message is small: the proxy bounds them.
function send(bytes) {
	if (!socket || socket.readyState !== WebSocket.OPEN) {
		return;
	}
	for (let i = 0; i < bytes.length; i += 4096) {
		socket.send(bytes.subarray(i, i + 4096));
	}
}

function connect() {
	if (!token) {
		setState('no token');
		page.tell('The address of this page has no token in it.', another());
		return;
	}
	setState('connecting');
	const mine = new WebSocket(page.webSocketAddress(token, 'serial'), ['binary']);
	mine.binaryType = 'arraybuffer';
	mine.addEventListener('open', () => {
		setState('connected');
		term.focus();
	});
	mine.addEventListener('message', (event) => {
		term.write(typeof event.data === 'string' ? event.data : new Uint8Array(event.data));
	});
	mine.addEventListener('close', () => {
		if (mine === socket) {
			setState('disconnected');
		}
	});
	socket = mine;
}

// again tries the same token: it may still be good, if the agent was only restarted.
function again() {
	const button = document.createElement('button');
	button.id = 'again';
	button.textContent = 'Connect again';
	button.addEventListener('click', connect);
	return button;
}

// another takes a new address or token, so that what the terminal shows stays.
function another() {
	const form = document.createElement('span');
	const input = document.createElement('input');
	input.id = 'address';
	input.placeholder = 'paste the new address or token here, then press Enter';
	input.addEventListener('keydown', (event) => {
		if (event.key !== 'Enter') {
			return;
		}
		const text = input.value.trim();
		token = page.tokenOf(text.slice(text.indexOf('?') + 1)) || text;
		page.remember('?token=' + encodeURIComponent(token));
		connect();
	});
	form.append(input);
	return form;
}
