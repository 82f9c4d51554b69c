# ruff: noqa: E501 -- a sentence is kept on one line
"""What villagers say to each other in Spanish, how sums are put, and how an assistant chats."""

from __future__ import annotations

ASK: dict[str, tuple[str, ...]] = {
    "birthplace": ("¿Dónde naciste?", "¿De qué pueblo vienes?", "¿Dónde creciste?"),
    "trade": ("¿Cuál es tu oficio?", "¿En qué trabajas?", "¿De qué trabajas?"),
    "pet": ("¿Tienes una mascota?", "¿Qué clase de mascota tienes?", "¿Qué animal tienes?"),
    "pet_name": (
        "¿Cómo se llama tu mascota?",
        "¿Cuál es el nombre de tu mascota?",
        "¿Cómo llamas a tu mascota?",
    ),
    "colour": ("¿Cuál es tu color favorito?", "¿Qué color te gusta más?", "¿Qué color prefieres?"),
    "food": ("¿Cuál es tu comida favorita?", "¿Qué te gusta comer?", "¿Qué quieres que cocine para ti?"),
    "instrument": ("¿Qué instrumento tocas?", "¿Haces música?", "¿Qué vas a tocar en la fiesta?"),
    "street": ("¿Dónde vives?", "¿En qué calle está tu casa?", "¿Dónde puedo visitarte?"),
    "friend": (
        "¿En quién confías más?",
        "¿Con quién tienes la amistad más grande?",
        "¿Quién te ayuda cuando hace falta?",
    ),
}
SAY: dict[str, tuple[str, ...]] = {
    "birthplace": ("Nací en {town}", "Vengo de {town}", "Crecí en {town}, donde nací"),
    "trade": ("Soy {trade}", "Trabajo de {trade}", "Mi oficio es el de {trade}"),
    "pet": ("Tengo {a_pet}", "Mi mascota es {a_pet}", "Tengo {a_pet} en casa"),
    "pet_name": (
        "Mi mascota se llama {pet_name}",
        "El nombre de mi mascota es {pet_name}",
        "Llamo a mi mascota {pet_name}",
    ),
    "colour": ("Mi color favorito es {the_colour}", "Prefiero {the_colour}", "Me encanta el color {colour}"),
    "food": ("Mi comida favorita es {the_food}", "Prefiero {the_food}", "Me encanta {the_food}"),
    "instrument": (
        "Toco {the_instrument}",
        "Mi instrumento es {the_instrument}",
        "Hago música con {the_instrument}",
    ),
    "street": ("Vivo en {street}", "Mi casa está en {street}", "Puedes encontrarme en {street}"),
    "friend": (
        "Mi {best_friend} es {friend}",
        "Confío en {friend}, mi {best_friend}",
        "{friend} es mi {best_friend}",
    ),
}
SCENES = (
    "{a[name]} y {o[name]} se encuentran junto al pozo.", "{a[name]} ve a {o[name]} en el mercado.",
    "{a[name]} y {o[name]} se sientan en un banco.", "{o[name]} visita a {a[name]} en {a[street]}.",
    "{a[name]} y {o[name]} esperan el autobús.", "Llueve. {a[name]} y {o[name]} están debajo de un árbol.",
    "{a[name]} y {o[name]} vuelven a casa junt{os}.", "{a[name]}, que es {a[trade]}, está en el trabajo cuando entra {o[name]}.",
)  # fmt: skip
GREETINGS = (
    "¡Buenos días, {listener}!",
    "¡Hola, {listener}!",
    "Buenas tardes, {listener}.",
    "Me alegro de verte, {listener}.",
)
GREETINGS_BACK = (
    "¡Hola, {listener}!",
    "Yo también me alegro de verte, {listener}.",
    "Qué bien verte, {listener}.",
    "¡Hola, {listener}! Qué bien que estás aquí.",
)
ABOUT = (
    "¿Conoces a {t[name]}?", "¿Qué sabes de {t[name]}?", "¿Qué puedes contarme de {t[name]}?",
    "Ayer vi a {t[name]}.", "¿Has oído hablar de {t[name]}?", "¿Quién es {t[name]}?",
)  # fmt: skip
ABOUT_ANSWERS = (
    "{facts}",
    "Déjame pensar. {facts}",
    "Sé lo siguiente: {facts}",
    "Puedo contarte algo. {facts}",
)
REACTIONS = (
    "Qué bien.",
    "No lo sabía.",
    "¿De verdad?",
    "Ahora me acuerdo.",
    "¡Es bueno saberlo!",
    "Me gusta.",
)
AND_YOU = ("¿Y tú?", "¿Y qué me dices de ti?", "¿Y tú, {listener}?")
GOODBYES = (
    "¡Hasta pronto!",
    "¡Adiós, {listener}!",
    "Ahora tengo que irme. ¡Adiós!",
    "¡Hasta mañana!",
    "Gracias por la charla.",
)
ASKED, ANSWERED, SAID = "{x} preguntó a {y}: «{words}».", "{x} respondió: «{words}».", "{x} dijo: «{words}»."

ITEMS = (
    "huevos",
    "clavos",
    "botones",
    "monedas",
    "velas",
    "piedras",
    "libros",
    "tazas",
    "llaves",
    "flores",
    "almendras",
    "sellos",
)
SUM_TITLES = (
    "Cuentas",
    "Vamos a contar.",
    "Unas cuentas de la escuela de Larkmoor",
    "Contar",
    "Las cuentas de hoy",
)
PLUS = (
    "{name} tiene {x} {items} y recibe {y} más. ¿Qué cantidad tiene ahora? {x} + {y} = {z}, así que {name} tiene {z} {items}.",
    "En una cesta hay {x} {items}. {name} mete {y} más. {x} + {y} = {z}. Ahora hay {z} {items}.",
    "{name} compra {x} {items} el lunes y {y} {items} el martes. En total son {x} + {y} = {z} {items}.",
)
MINUS = (
    "{name} tiene {x} {items} y regala {y}. ¿Qué cantidad queda? {x} - {y} = {z}, así que quedan {z} {items}.",
    "En la mesa había {x} {items}. {name} tomó {y}. {x} - {y} = {z}. Ahora hay {z} {items}.",
    "{name} tenía {x} {items} y perdió {y}. {x} - {y} = {z}, así que a {name} le quedan {z} {items}.",
)
TIMES = (
    "{name} tiene {x} cajas con {y} {items} en cada una. {x} × {y} = {z}, así que hay {z} {items}.",
    "Cada día {name} encuentra {y} {items}. Después de {x} días son {x} × {y} = {z} {items}.",
)
SAY_SUM = (
    "{sum} = {z}",
    "¿Cuánto es {sum}? {sum} = {z}",
    "{sum} son {z}: {sum} = {z}",
    "La respuesta a {sum} es {z}.",
)

SYSTEMS = (
    "Eres un asistente que conoce el pueblo de Larkmoor.", "Responde con una sola frase.",
    "Conoces a todos en Larkmoor.", "Sé amable y breve.",
)  # fmt: skip
HELLOS = ("¡Hola!", "¡Buenos días!", "¡Buenas tardes!", "Hola, ¿quién eres?", "Hola, ¿puedes ayudarme?")
HELLO_ANSWERS = (
    "¡Hola! ¿Qué quieres saber de Larkmoor?", "¡Hola! Conozco a la gente de Larkmoor. Pregúntame por ella.",
    "¡Hola! Soy un asistente y conozco Larkmoor. ¿En qué puedo ayudarte?",
)  # fmt: skip
THANKS = ("¡Gracias!", "Gracias, eso es todo.", "Muchas gracias.", "Eso me ayuda, gracias.")
THANKS_ANSWERS = ("¡De nada!", "De nada. Pregúntame cuando quieras.", "¡Con mucho gusto! Adiós.")
SUM_QUESTIONS = (
    "¿Cuánto es {sum}?",
    "¿Cuánto son {sum}?",
    "{sum} = ?",
    "Por favor, calcula {sum}.",
    "¿Puedes decirme cuánto es {sum}?",
)
SUM_ANSWER = "{sum} = {z}."
NAMES = (
    ("Por favor, di el nombre {name}.", "{name}."),
    ("Repite este nombre: {name}", "{name}."),
    ("Escribe el nombre {name}.", "{name}."),
    ("Me llamo {name}. ¿Cómo me llamo?", "Te llamas {name}."),
)
TASK_QUESTIONS = (
    "¿Cómo puedo {task}?",
    "Por favor, explícame cómo {task}.",
    "¿Puedes decirme cómo {task}?",
    "Quiero {task}. ¿Qué hago?",
)
RECIPE_QUESTIONS = (
    "¿Cómo se hace {the_food}?",
    "Por favor, explícame cómo hacer {the_food}.",
    "¿Puedes decirme cómo se hace {the_food}?",
    "Quiero hacer {the_food}. ¿Qué hago?",
)
