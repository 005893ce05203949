// The policy of these pages allows no styles in elements or attributes made from text. Xterm.js and spice-html5 make some; here they become style sheets and
// properties made by a script, which the policy has no objection to.
'use strict';

(() => {
	const create = document.createElement.bind(document);

	// sheet is an element that stands for <style>: its text is that of a style sheet of the document.
	function sheet() {
		const rules = new CSSStyleSheet();
		document.adoptedStyleSheets.push(rules);
		const element = create('data');
		element.hidden = true;
		Object.defineProperty(element, 'textContent', { set: (text) => rules.replaceSync(text) });
		element.remove = () => {
			document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== rules);
			Element.prototype.remove.call(element);
		};
		return element;
	}

	document.createElement = (name, options) => (name === 'style' ? sheet() : create(name, options));

	const set = Element.prototype.setAttribute;
	Element.prototype.setAttribute = function setAttribute(name, value) {
		if (name === 'style') {
			this.style.cssText = value;
		} else {
			set.call(this, name, value);
		}
	};
})();
