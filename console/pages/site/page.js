// What the pages of consoles have in common. Loaded first, before the viewers.
//
// The address of a page has a token in it that opens a console. It is taken out of the address bar, so that it is not seen, copied or kept in the history by
// its name; it stays in the state of the history's entry, which a reload of the page has and other pages have not.
//
// The viewers say little about why a connection ended. So every WebSocket of the page is watched, and the reason is told.
'use strict';

window.consolePage = (() => {
	const state = history.state || {};
	const search = location.search || state.consoleSearch || '';

	// The address's parameters are put back while the viewer reads them.
	if (search && !location.search) {
		history.replaceState(state, '', location.pathname + search);
	}

	// tokenOf finds the token in parameters: in themselves, or in noVNC's path, which is an address of its own.
	function tokenOf(text) {
		const parameters = new URLSearchParams(text);
		const path = parameters.get('path') || '';
		return parameters.get('token') || new URLSearchParams(path.slice(path.indexOf('?') + 1)).get('token') || '';
	}

	// remember takes the parameters out of the address bar.
	let remembered = search;
	function remember(text) {
		remembered = text;
		history.replaceState({ ...history.state, consoleSearch: text }, '', location.pathname);
	}

	// webSocketAddress is where the console of a token is, beside this page. The proxy refuses a token of another protocol.
	function webSocketAddress(token, protocol) {
		const address = new URL('./', location.href);
		address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
		address.search = '?token=' + encodeURIComponent(token) + '&protocol=' + protocol;
		return address.href;
	}

	// whatToDo is told with every end: how a new address is asked for.
	const kind = document.currentScript.dataset.kind || 'novnc';
	const whatToDo = 'Ask for a new address: ';
	const command = 'openstack console url show --' + kind + ' SERVER';

	// explain says in words why a connection ended. The proxy's reason is the better one, if it gave one.
	function explain(event, opened) {
		if (event.reason) {
			return 'The console ended: ' + event.reason + '.';
		}
		if (!opened) {
			return 'The console did not open. The token in the address of this page is unknown, has expired or was revoked, or the server does not run.';
		}
		return event.code === 1000 || event.code === 1001 ? 'The console ended: the server has been stopped or deleted, or its token was revoked.'
			: 'The connection to the console broke.';
	}

	// tell shows a message above the page, with what to do, and with the buttons that a page adds.
	function tell(text, ...more) {
		const show = () => {
			let box = document.getElementById('console-message');
			if (!box) {
				box = document.createElement('div');
				box.id = 'console-message';
				box.setAttribute('role', 'alert');
				document.body.append(box);
			}
			const what = document.createElement('p');
			what.textContent = text;
			const how = document.createElement('p');
			const code = document.createElement('code');
			code.textContent = command;
			how.append(whatToDo, code);
			box.replaceChildren(what, how, ...more);
			box.hidden = false;
		};
		if (document.body) {
			show();
		} else {
			addEventListener('DOMContentLoaded', show);
		}
	}

	function hush() {
		const box = document.getElementById('console-message');
		if (box) {
			box.hidden = true;
		}
	}

	const page = { search, token: tokenOf(search), tokenOf, remember, webSocketAddress, tell, hush, onEnd: (text) => tell(text) };

	// A connection that the page itself closes ended as its user wished, and nothing is told. The viewers get real WebSockets: noVNC looks at what they have.
	window.WebSocket = new Proxy(WebSocket, {
		construct(native, parameters) {
			const socket = new native(...parameters);
			let opened = false;
			let left = false;
			remember(location.search || remembered);
			socket.addEventListener('open', () => {
				opened = true;
				hush();
			});
			socket.addEventListener('close', (event) => {
				if (!left) {
					page.onEnd(explain(event, opened));
				}
			});
			socket.close = (...why) => {
				left = left || socket.readyState === native.OPEN;
				native.prototype.close.apply(socket, why);
			};
			return socket;
		},
	});

	return page;
})();
