// The page of a SPICE console: connects spice-html5, as its own page does, but with the token in the WebSocket's address and not in a cookie.
import * as SpiceHtml5 from './spice-html5/main.js';

const page = window.consolePage;
let connection;

if (page.token) {
	connection = new SpiceHtml5.SpiceMainConn({
		uri: page.webSocketAddress(page.token, 'spice'), screen_id: 'spice-screen', dump_id: 'debug-div', message_id: 'message-div', password: '',
		onerror: () => connection && connection.stop(), onagent: agentConnected,
	});
} else {
	page.tell('The address of this page has no token in it.');
}

document.getElementById('sendCtrlAltDel').addEventListener('click', () => SpiceHtml5.sendCtrlAltDel(connection));

// With its agent the guest's screen follows the window's size, and takes files.
function agentConnected(sc) {
	window.spice_connection = sc;
	addEventListener('resize', SpiceHtml5.handle_resize);
	SpiceHtml5.resize_helper(sc);
	const area = document.getElementById('spice-area');
	const transfers = document.createElement('div');
	transfers.id = 'spice-xfer-area';
	area.append(transfers);
	area.addEventListener('dragover', SpiceHtml5.handle_file_dragover);
	area.addEventListener('drop', SpiceHtml5.handle_file_drop);
}
