// Before noVNC: vnc_auto.html connects by itself, as its name says, and shows the whole screen. What the address says comes first.
'use strict';

(() => {
	const { search, token, tell } = window.consolePage;
	if (!token) {
		tell('The address of this page has no token in it.');
		return;
	}
	if (location.pathname.endsWith('/vnc.html')) {
		return;
	}
	const parameters = new URLSearchParams(search);
	let wanted = location.pathname + search;
	for (const [name, value] of [['autoconnect', 'true'], ['resize', 'scale']]) {
		if (!parameters.has(name)) {
			wanted += '&' + name + '=' + value;
		}
	}
	history.replaceState(history.state, '', wanted);
})();
