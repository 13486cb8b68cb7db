-- What the sample pages share: require "_lib.html". Found beside the script that asks for it. Nobody can ask for what
-- begins with an underscore; the style sheet is public/style.css.

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
<link rel="stylesheet" href="/style.css">
</head>
<body>
<h1>%s</h1>
%s
</body>
</html>
]]):format(html.escape(title), html.escape(title), body)
end

return html
