-- What the sample pages share: require "lib.html". Found beside the script that asks for it.

local html = {}

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

-- Text that shows as itself in a page, whatever is in it.
function html.escape(text)
    return (tostring(text):gsub("[&<>\"']", entities))
end

-- A whole page around a body.
function html.page(title, body)
    return ([[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.6rem; color: #17694a }
table { border-collapse: collapse; width: 100%% }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #e3e3e3 }
td { overflow-wrap: anywhere }
input, button { font: inherit; padding: .3rem .6rem }
pre { background: #f4f6f5; padding: 1rem; overflow: auto }
</style>
</head>
<body>
<h1>%s</h1>
%s
</body>
</html>
]]):format(html.escape(title), html.escape(title), body)
end

return html
